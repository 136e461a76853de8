"""Docstrings in plain technical English, and class names that mean one thing (docs/glossary.md)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from tests.rules.tree import CODE, ROOT, files, nodes, python_files

#: A function's docstring begins with the imperative of the field: Return, Publish, Load, Raise.
NOT_IMPERATIVE = frozenset(
    "A All An Any As Ask At Both Bring Brings Each Every Gave Give Gives Had Have Hear Hears How If"  # noqa: SIM905
    " In Is It Its Let Lets No None Nobody Not Of One Only Said Say Says Somebody Something Tell Tells That The Their"
    " There These They This Those To Two What When Where Whether Which Who Whom Whose Why With".split()
)
#: A module or class is described by what it is, not by a question.
NOT_A_NOUN = {"What", "Where", "How", "Whether", "Which", "Who", "Whom", "When", "Why", "Tell", "Tells", "Give"}
#: Idioms that a reader of English as a second language has to look up, each in place of a plain word.
IDIOMS = re.compile(
    # One word boundary for all: a search at each place costs a sixth of one that tries every alternative there.
    r"to be had|\b(?:in vain\b|how-manieth|at home\b|in haste\b|shall\b|befall|Nobody waits\b|no more than a\b"
    r"|keeps? house\b|last words\b|the door\b|door of\b|by hand of\b|without a seam\b|hither\b|thence\b"
    r"|whoever\b|whomever\b|the like of\b|gives? up the\b|falls? due\b|of its own accord\b)",
    re.IGNORECASE,
)
#: One concept seen from two processes: the server's object and the same thing in a client's API.
SEEN_FROM_BOTH_SIDES = {"Artifact", "Event", "Job", "Session", "SessionCost", "Ticket", "Upload"}
WORDS = (*CODE, "tests")


def _documented(path: str) -> Iterator[tuple[ast.AST, str]]:
    for node in nodes(path):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            docstring := ast.get_docstring(node)
        ):
            yield node, docstring


def _is_property(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any("property" in ast.unparse(one) for one in node.decorator_list)


def test_a_docstring_begins_in_the_imperative() -> None:
    found = [
        f"{path}:{getattr(node, 'lineno', 1)} {docstring.splitlines()[0]}"
        for path in python_files(*CODE)
        for node, docstring in _documented(path)
        if not _is_property(node)
        and re.split(r"\W", docstring, maxsplit=1)[0]
        in (NOT_IMPERATIVE if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else NOT_A_NOUN)
    ]
    assert found == [], "\n".join(found)


def test_no_idioms() -> None:
    found = [
        f"{path}:{number} {line.strip()}"
        for path in files()
        if path.endswith((".py", ".md", ".yml", ".toml", ".html", "Makefile"))
        and path != "tests/rules/test_language.py"
        and not path.startswith("docs/adr/000")
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if IDIOMS.search(line)
    ]
    assert found == [], "\n".join(found)


def test_a_loop_names_what_it_loops_over() -> None:
    found = [
        f"{path}:{number} {line.strip()}"
        for path in python_files(*CODE)
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1)
        if re.search(r"\bfor one(, \w+)? in\b|\bfor \w+, one in\b", line)
    ]
    assert found == [], "\n".join(found)


def test_a_class_name_means_one_thing() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in python_files(*CODE):
        for node in nodes(path):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)
    ambiguous = {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SEEN_FROM_BOTH_SIDES}
    assert ambiguous == {}
