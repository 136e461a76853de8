"""Names of our distributions: one of each, and nothing tells anybody to install somebody else's.

``saccade`` and ``saccade-vision`` on the Python index and ``saccade`` on npm are other people's projects.
"""

from __future__ import annotations

import json
import re
import tomllib

from tests.rules.tree import ROOT, files

OURS = {
    "pyproject.toml": "saccade-server",
    "contracts/pyproject.toml": "saccade-contracts",
    "clients/events/pyproject.toml": "saccade-events",
    "clients/python/pyproject.toml": "saccade-client",
    "clients/lerobot/robot_client/pyproject.toml": "saccade-robot",
    # LeRobot finds a plugin by this prefix.
    "clients/lerobot/plugin/pyproject.toml": "lerobot_robot_saccade",
}
#: A command that installs from an index, until the end of the command.
INSTALL = re.compile(r"(?:pip|pipx|uvx|uv tool|uv|npm|pnpm|yarn) (?:install|add|i) ([^\n`)]*)")
TEXTS = {
    path: (ROOT / path).read_text()
    for path in files()
    if path.endswith((".py", ".md", ".yml", ".env", ".js", ".html", ".Dockerfile", "Makefile"))
    and not path.startswith("tests/")
}


def test_every_distribution_has_its_own_name() -> None:
    found = {path: tomllib.loads((ROOT / path).read_text())["project"]["name"] for path in OURS}
    assert found == OURS
    assert {path for path in files() if path.endswith("pyproject.toml")} == OURS.keys()
    assert json.loads((ROOT / "clients/js/package.json").read_text())["name"] == "saccade-client"


def test_a_distribution_names_only_ours_and_its_extras_exist() -> None:
    for path in OURS:
        project = tomllib.loads((ROOT / path).read_text())["project"]
        extras = project.get("optional-dependencies", {})
        lines = [*project.get("dependencies", []), *(line for group in extras.values() for line in group)]
        for line in lines:
            if "saccade" in line:
                name, _, wanted = line.partition("==")[0].partition("[")
                assert name in OURS.values(), f"{path}: {line}"
                assert set(filter(None, wanted.rstrip("]").split(","))) <= extras.keys(), f"{path}: {line}"


def test_no_hint_and_no_document_installs_what_is_not_published() -> None:
    """Until our distributions are on an index, a line names the folder in a clone of the repository, or make."""
    told = {(path, line) for path, text in TEXTS.items() for line in INSTALL.findall(text)}
    assert any(path == "clients/python/README.md" for path, _ in told), "the pattern finds what it is for"
    wrong = {
        (path, line)
        for path, line in told
        for word in line.split()
        if re.match(r"[\"']?saccade(?:[-_]\w+)?(?:\[|[\"'=<>~!.,;]|$)", word)
    }
    assert wrong == set()


def test_extras_in_a_line_exist() -> None:
    extras = {
        path.removesuffix("pyproject.toml").rstrip("/") or ".": set(
            tomllib.loads((ROOT / path).read_text())["project"].get("optional-dependencies", {})
        )
        for path in OURS
    }
    named = {
        (path, folder.removeprefix("./") or ".", extra)
        for path, text in TEXTS.items()
        for folder, several in re.findall(r"[ '\"](\.|(?:\./)?clients/[\w/]+)\[([a-z0-9,-]+)\]", text)
        for extra in several.split(",")
    }
    assert {folder for _, folder, _ in named} >= {".", "clients/python"}
    assert [one for one in sorted(named) if one[2] not in extras[one[1]]] == []


def test_make_targets_in_hints_and_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    quoted = re.compile(
        r"(?:`|: |run |^|\$ )make (?!again\b|it\b|one\b)([a-z]+(?:-[a-z]+)*)(?=[`\s.;\"'),]|$)", re.MULTILINE
    )
    named = {(path, target) for path, text in TEXTS.items() for target in quoted.findall(text)}
    assert ("cli/embedded/programs.py", "up-all") in named
    assert [one for one in sorted(named) if one[1] not in targets] == []
