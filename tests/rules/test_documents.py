"""What the documents tell to type, to open and to read exists: commands, options, anchors, routes and fields."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import click

from cli.__main__ import saccade
from contracts.asyncapi import asyncapi_document
from docs.reference import api_documents
from modal_workers import catalog
from tests.rules.tree import ROOT, files

#: Where a user reads. docs/events.md is generated from the events themselves.
PAGES = [path for path in files() if path == "README.md" or re.fullmatch(r"(docs|clients/\w+)/[\w-]+\.md", path)]
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
IN_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]*)#([^)\s]+)\)")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "WS")
#: Pages, and what the composition root adds beside the routers.
PAGE_ROUTES = {"get /docs", "get /sessions/{}", "get /openapi.json", "get /v1/webhooks/openapi.json"} | {
    "get /health", "get /ready", "get /metrics", "get /asyncapi.json", "get /asyncapi"
}  # fmt: skip
ROUTE = re.compile(rf"({'|'.join(METHODS)}) ((?:/|…/)[\w./{{}}…-]*)(?:\?\S*)?(?: (\{{.*\}}))?")
FIELD = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
SOURCES = ("contracts/", "kit/", "services/", "modal_workers/", "cli/", "clients/", "simulators/", "docs/asyncapi.json")


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return FENCED.sub("", text_of(page))


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words of every command of ours that a page tells to type, in blocks and in sentences."""
    blocks = [block.replace("\\\n", " ") for _, kind, block in FENCED.findall(text_of(page)) if kind == "sh"]
    lines = [line for block in blocks for line in block.splitlines()]
    for line in [*lines, *IN_CODE.findall(prose(page))]:
        for command in re.split(r"[|;&]+|\$\(|\)", line):
            words = re.sub(r"\s#.*", "", command).strip().removeprefix(".venv/bin/")
            words = re.sub(r"^(?:[A-Z_]+=\S*\s+|export\s+)*", "", words)
            if re.match(r"(saccade|make)\s", words) and words.count("'") % 2 == words.count('"') % 2 == 0:
                yield shlex.split(words)


def _with_value(command: click.Command) -> set[str]:
    """Return the options of a command that the next word is the value of."""
    options = [given for given in command.params if isinstance(given, click.Option) and not given.is_flag]
    return {name for given in options for name in given.opts}


def wrong_in(words: list[str]) -> str | None:
    """Return the first word of a ``saccade`` command that the command line does not have."""
    command: click.Command | None = saccade
    options: set[str] = set()
    rest = iter(words[1:])
    for word in rest:
        if isinstance(command, click.Group) and (found := command.get_command(click.Context(command), word)):
            command = found
        elif isinstance(command, click.Group) and not command.invoke_without_command and not word.startswith("-"):
            return word
        options = {name for given in (command, saccade) if given for param in given.params for name in param.opts}
        if word.startswith("-") and word.partition("=")[0] not in options | {"--help", "-h"}:
            return word
        if isinstance(command, click.Group) and word in _with_value(command):
            next(rest, None)
    return None


def test_every_command_and_option_exists() -> None:
    typed = [(page, words) for page in PAGES for words in commands(page)]
    ours = [(page, words) for page, words in typed if words[0] == "saccade"]
    assert len(ours) > 20
    assert [(page, words, wrong) for page, words in ours if (wrong := wrong_in(words))] == []


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = {(page, words[1]) for page in PAGES for words in commands(page) if words[0] == "make"}
    assert {target for _, target in typed} >= {"up", "demo", "test"}
    assert {(page, target) for page, target in typed if target not in targets and "/" not in target} == set()


def test_commands_stand_in_blocks_that_are_run() -> None:
    """tests/system/test_readme.py runs what is marked ``sh``, and nothing else."""
    told = re.compile(r"^ *(?:\$ )?(?:make|saccade|curl|pip|uv|python3?|pytest|docker|\.venv/bin/\w+) .*", re.MULTILINE)
    bare = re.compile(r"^    +(?:make|saccade|curl|pip|uv|python3?|pytest|docker|\.venv/bin/\w+) .*", re.MULTILINE)
    hidden = [(page, line) for page in PAGES for line in bare.findall(prose(page))]
    unmarked = [
        (page, line)
        for page in PAGES
        for _, kind, block in FENCED.findall(text_of(page))
        if kind == ""
        for line in told.findall(block)
        if not line.strip().startswith("$ ")
    ]
    assert hidden + unmarked == []


def anchor(heading: str) -> str:
    """Return the anchor that a heading has on a page of the repository's host."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_anchor_is_a_heading() -> None:
    links = [(page, target or page, name) for page in PAGES for target, name in LINK.findall(text_of(page))]
    assert links
    broken = []
    for page, target, name in links:
        path = page if target == page else (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix()
        headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
        if name not in {anchor(heading) for heading in headings}:
            broken.append((page, f"{target}#{name}"))
    assert broken == []


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


@cache
def operations() -> set[str]:
    """Return method and path of every route; a parameter of a path is ``{}``."""
    described = {
        f"{method} {_shape(path)}"
        for document in api_documents()
        for path, methods in document["paths"].items()
        for method in methods
    }
    return described | PAGE_ROUTES


def _is_served(method: str, path: str) -> bool:
    method, path = ("get" if method in ("HEAD", "WS") else method.lower()), _shape(path)
    if path.endswith("/stream"):
        return True
    if path.startswith("…"):
        return any(known.startswith(f"{method} ") and known.endswith(path[1:]) for known in operations())
    return f"{method} {path}" in operations() or any(
        re.fullmatch(re.escape(known).replace(r"\{\}", r"[\w.-]+"), f"{method} {path}") for known in operations()
    )


def test_every_route_is_served() -> None:
    named = [(page, *found.groups()) for page in PAGES for code in IN_CODE.findall(prose(page))
             if (found := ROUTE.fullmatch(code))]  # fmt: skip
    assert len(named) > 30
    assert [(page, method, path) for page, method, path, _ in named if not _is_served(method, path)] == []


def _names(value: Any) -> Iterator[str]:
    """Yield every key and every text of a JSON document."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)
    elif isinstance(value, str):
        yield value


@cache
def fields() -> set[str]:
    """Return all names in the schemas of requests, answers, events and workloads."""
    workloads = [
        model.model_json_schema() for one in catalog.workloads().values() for model in (one.params, one.result)
    ]
    return {name for document in (*api_documents(), asyncapi_document(), *workloads) for name in _names(document)}


@cache
def words_of_the_source() -> set[str]:
    sources = [path for path in files() if path.startswith(SOURCES) and path.endswith((".py", ".js", ".ts", ".json"))]
    return {word for path in sources for word in re.findall(r"[A-Za-z_]\w+", (ROOT / path).read_text())}


def test_every_field_exists() -> None:
    """A field of a table is in a schema; another name in code style is, or is a name in the source."""
    tables = re.compile(r"^\| field \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", re.MULTILINE)
    in_tables = {
        (page, name)
        for page in PAGES
        for table in tables.findall(text_of(page))
        for row in table.splitlines()
        for name in IN_CODE.findall(row.split("|")[1])
    }
    assert in_tables
    assert {(page, name) for page, name in in_tables if name not in fields()} == set()
    # Names of metrics are compared with what the services give (tests/system/test_metrics.py).
    pages = [page for page in PAGES if page != "docs/metrics.md"]
    named = {(page, name) for page in pages for name in IN_CODE.findall(prose(page)) if FIELD.fullmatch(name)}
    # What the reader of docs/add-a-workload.md writes.
    written = set(
        re.findall(r"\w+", "".join(block for _, _, block in FENCED.findall(text_of("docs/add-a-workload.md"))))
    )
    assert {(page, name) for page, name in named if name not in fields() | words_of_the_source() | written} == set()
