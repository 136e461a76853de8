"""The generated pages leave out no setting and no error code, and are linked where a reader begins."""

from __future__ import annotations

import re

from contracts.errors import KINDS
from docs.reference import NOT_SET_BY_USERS, SETTINGS, api_documents, settings_classes, variables_of
from tests.rules.test_environment import CODE, _is_settings_class
from tests.rules.tree import ROOT, nodes, python_files

#: Packages of users' machines, which have pages of their own.
CLIENTS = "clients/"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def test_every_module_with_settings_is_on_the_page() -> None:
    places = {path for path in python_files(*CODE) if any(map(_is_settings_class, nodes(path)))}
    listed = {f"{module.replace('.', '/')}.py" for modules in SETTINGS.values() for module in modules}
    assert {path for path in places if not path.startswith(CLIENTS)} == listed


def test_every_setting_is_on_the_page_once() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?`) \| ", page("settings.md"), re.MULTILINE)
    firsts = [row.split("`")[1] for row in rows]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    read = {
        variables_of(found, name, info)
        for modules in SETTINGS.values()
        for module in modules
        for found in settings_classes(module)
        if not found.__name__.startswith("_")
        for name, info in found.model_fields.items()
        if name != "queue"
    }
    assert len(firsts) == len(set(firsts))
    assert {name for names in read for name in names} - NOT_SET_BY_USERS == named


def test_every_error_code_is_on_the_page_once() -> None:
    assert sorted(re.findall(r"^\| `(\w+)` \|", page("errors.md"), re.MULTILINE)) == sorted(KINDS)


def test_every_route_is_on_the_page() -> None:
    served = {
        f"{method.upper()} {path}"
        for document in api_documents()
        for path, methods in document["paths"].items()
        for method in methods
        if method != "head"
    }
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", page("routes.md"), re.MULTILINE)) == served


def test_the_first_page_leads_to_them() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in ("errors.md", "routes.md", "settings.md") if f"(docs/{name})" not in readme] == []
