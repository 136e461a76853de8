"""FastStream is used in one place, which sets its defaults right (docs/adr/0020)."""

from __future__ import annotations

import ast
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.rules.tree import CODE, ROOT, nodes, python_files

PACKAGE = "clients/events/saccade_events/"
#: The package, its tests, and the comparison of documents; the services take what they need from the package.
_ALLOWED = (PACKAGE, "tests/contract/reactions/", "tests/contract/own_service/", "tests/rules/test_asyncapi.py")
#: A page that publishes for anybody, a second connection beside the service's own, and labels by subject.
_FORBIDDEN = (
    "faststream.asgi",
    "faststream.nats.fastapi",
    "faststream.nats.prometheus",
    "faststream.nats.opentelemetry",
)
#: Shows what a forbidden module does.
_TRAPS = "tests/contract/reactions/test_traps.py"


def _imports(path: str) -> set[str]:
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _importers(*modules: str) -> set[str]:
    return {
        path
        for path in python_files(*CODE, "tests")
        if any(name == module or name.startswith(f"{module}.") for name in _imports(path) for module in modules)
    }


def test_faststream_is_imported_by_the_package_alone() -> None:
    importers = _importers("faststream", "fast_depends")
    assert f"{PACKAGE}bus.py" in importers
    assert sorted(path for path in importers if not path.startswith(_ALLOWED)) == []


def test_nobody_subscribes_or_publishes_by_faststreams_defaults() -> None:
    calls = {
        f"{path}:{node.lineno}"
        for path in python_files(*CODE)
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in ("subscriber", "publisher")
    }
    assert any(call.startswith(f"{PACKAGE}reactions.py") for call in calls)
    assert sorted(call for call in calls if not call.startswith(PACKAGE)) == []


@pytest.mark.parametrize("module", _FORBIDDEN)
def test_what_publishes_for_anybody_or_measures_by_subject_is_not_imported(module: str) -> None:
    assert _importers(module) <= {_TRAPS}


def test_the_pin_is_exact_and_the_same_in_both_distributions() -> None:
    server = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = tomllib.loads((ROOT / "clients/events/pyproject.toml").read_text())["project"]
    lines = [*package["dependencies"], *server["optional-dependencies"]["events"]]
    (pin,) = {str(Requirement(line).specifier) for line in lines if Requirement(line).name == "faststream"}
    assert pin.startswith("==")
    assert f"faststream{pin}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_package_needs_what_it_declares_and_nothing_else() -> None:
    package = tomllib.loads((ROOT / "clients/events/pyproject.toml").read_text())["project"]
    extras = [line for group in package["optional-dependencies"].values() for line in group]
    declared = {Requirement(line).name for line in [*package["dependencies"], *extras]}
    assert declared == {
        "saccade-contracts",
        "faststream",
        "nats-py",
        "pydantic",
        "prometheus-client",
        "opentelemetry-api",
    }
    allowed = {"contracts", "saccade_events", "faststream", "nats", "pydantic", "prometheus_client", "opentelemetry"}
    own = [path for path in python_files("clients") if path.startswith(PACKAGE)]
    others = {name.partition(".")[0] for path in own for name in _imports(path)} - set(sys.stdlib_module_names)
    assert others <= allowed | {"anyio", "__future__"}, "anyio comes with FastStream, which cancels by it"


def test_only_an_observer_loads_its_library() -> None:
    importers = {path for path in _importers("prometheus_client", "opentelemetry") if path.startswith(PACKAGE)}
    assert importers == {f"{PACKAGE}metrics.py", f"{PACKAGE}traces.py"}
