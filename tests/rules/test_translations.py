"""Texts in German: of every workload and its parameters, and of the page of a live session."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from modal_workers import catalog
from modal_workers.workload_texts import LANGUAGES, parameter_paths, translated_schema, workload_texts

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "services" / "gateway" / "sessions" / "page"
_WORKLOADS = [name for name, workload in catalog.workloads().items() if workload.kind != "stage"]
_CALL = re.compile(r'\bt\(\s*"((?:[^"\\]|\\.)*)"')
#: Tables of texts that are translated where they are used.
_TABLE = re.compile(r"^const [A-Z_]+ = \{(.*?)\};", re.MULTILINE | re.DOTALL)
_WORDS = re.compile(r'"([^"]*)"')
_SHOWN = ("aria-label", "aria-roledescription", "placeholder", "title")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", _WORKLOADS)
def test_every_workload_has_its_texts(name: str, language: str) -> None:
    workload = catalog.workload(name)
    texts = workload_texts(name, language)
    path = f"{catalog.worker_package(name).replace('.', '/')}/texts_{language}.json"
    assert texts is not None, f"write {path}"
    assert texts.title
    assert texts.description
    assert set(texts.inputs) == {given.name for given in workload.inputs}, f"inputs of {path}"
    assert set(texts.stages) == {stage.name for stage in workload.stages}, f"stages of {path}"
    told = [(len(found.picks), set(found.columns)) for found in texts.follow_ups]
    assert told == [(len(given.picks), set(given.columns)) for given in workload.follow_ups], f"follow_ups of {path}"
    schema = workload.params.model_json_schema()
    parameters = dict(parameter_paths(schema))
    assert set(texts.params) == set(parameters), f"params of {path} must name each parameter of the schema"
    described = {where for where, parameter in parameters.items() if parameter.get("description")}
    assert {where for where in described if not texts.params[where].description} == set(), f"descriptions of {path}"
    translated = dict(parameter_paths(translated_schema(schema, texts)))
    assert {where: parameter["title"] for where, parameter in translated.items()} == {
        where: text.title for where, text in texts.params.items()
    }


def test_every_text_of_a_sessions_page_is_in_german() -> None:
    german = set(
        re.findall(r'^  "((?:[^"\\]|\\.)*)":', (PAGE / "words_de.js").read_text(encoding="utf-8"), re.MULTILINE)
    )
    wanted: dict[str, str] = {}
    for script in sorted(PAGE.rglob("*.js")):
        if script.name == "words_de.js":
            continue
        source = script.read_text(encoding="utf-8")
        found = _CALL.findall(source)
        if script.name in ("text.js", "word_list.js"):
            found += [word for table in _TABLE.findall(source) for word in _WORDS.findall(table)]
        wanted |= dict.fromkeys(found, script.name)
    for page in sorted(PAGE.rglob("*.html")):
        wanted |= dict.fromkeys(_texts(page.read_text(encoding="utf-8")), page.name)
    assert len(wanted) > 100
    assert {text: where for text, where in wanted.items() if text not in german} == {}
    assert german - set(wanted) - {"dropped", "rejected"} == set(), "no page has these texts any more"


def _texts(html: str) -> list[str]:
    """Return what a page shows: its texts, and those of attributes."""
    reader = _Reader()
    reader.feed(html)
    return reader.found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.found += [
            " ".join(value.split()) for name, value in attrs if name in _SHOWN and value and value != "id.secret"
        ]

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        # Numbers with units, marks, and what stands for a file.
        if re.search(r"[A-Za-z]{2}", text) and not re.match(r"\d+ Hz$|\$", text) and "script" not in self._inside[-1:]:
            self.found.append(text)
