"""Who may import whom, and what importing a service costs."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.rules.tree import ROOT, nodes, python_files

HEAVY = {"torch", "torchvision", "cv2", "numpy", "av", "modal", "matplotlib", "PIL"}
#: What only the command line's servers and workers need, not ``saccade --help``.
SERVERS = {"fastapi", "aiobotocore", "botocore", "nats", "uvicorn", "aiohttp"}
#: What a library would load for a transport that no service and no worker uses.
UNUSED = {"httpx", "rich"}
CLIENTS = ["clients/python", "clients/events", "clients/lerobot/robot_client"]
EVERY_WORKLOAD = "import modal_workers.catalog; modal_workers.catalog.workloads()"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    # The clients of this tree, not those that are installed.
    code = f"import sys; sys.path[1:1] = {CLIENTS}; from importlinter.cli import lint_imports; "
    command = [sys.executable, "-c", f"{code}raise SystemExit(lint_imports())"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_import_contracts_hold() -> None:
    linted = _lint(ROOT)
    assert linted.returncode == 0, linted.stdout + linted.stderr


PLANTED = {
    "contracts/limits.py": "import kit.bus.connection",
    "kit/logs.py": "import modal_workers.catalog",
    "kit/bucket.py": "import contracts.job",
    "modal_workers/catalog.py": "import simulators.laps.circuit",
    "services/gateway/settings.py": "import services.notifier.settings",
    "services/notifier/settings.py": "import cv2",
    "services/dispatcher/settings.py": "import modal_workers.another.job",
    "cli/output.py": "import modal",
    "kit/settings.py": "import saccade_client.errors",
    "clients/python/saccade_client/errors.py": "import contracts.errors",
    "clients/lerobot/robot_client/saccade_robot/ring.py": "import numpy",
    "clients/events/saccade_events/errors.py": "import kit.settings",
    "kit/tasks.py": "import saccade_events",
    "modal_workers/runtime/attempt.py": "import saccade_events.bus",
    "modal_workers/lap_compare/spec.py": "import numpy",
    "modal_workers/another/spec.py": "import modal_workers.another.job",
    "modal_workers/another/job.py": "import modal_workers.lap_compare.wording",
    "modal_workers/third/job.py": "import nats",
}
#: Closes a circle between two folders of a package.
PLANTED_CYCLE = {"services/gateway/uploads/upload_checks.py": "import services.gateway.app"}


@pytest.fixture(scope="module")
def report_on_planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Lint a copy of the tree with one forbidden import in each of some files, two new workers among them."""
    copy = tmp_path_factory.mktemp("planted")
    for folder in ("contracts", "kit", "services", "modal_workers", "simulators", "cli", *CLIENTS):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    for path, line in {**PLANTED, **PLANTED_CYCLE}.items():
        (copy / path).parent.mkdir(exist_ok=True)
        ((copy / path).parent / "__init__.py").touch()
        with (copy / path).open("a") as file:
            file.write(f"\n{line}\n")
    linted = _lint(copy)
    assert linted.returncode == 1, linted.stdout + linted.stderr
    return linted.stdout


@pytest.mark.parametrize("path", list(PLANTED))
def test_a_planted_import_is_found(path: str, report_on_planted: str) -> None:
    importer = re.sub(rf"^({'|'.join(CLIENTS)})/", "", path).removesuffix(".py").replace("/", ".")
    imported = PLANTED[path].removeprefix("import ")
    assert re.search(rf"{re.escape(importer)} -> {re.escape(imported)} \(l\.\d+\)", report_on_planted)


def test_a_planted_cycle_is_found(report_on_planted: str) -> None:
    assert "No cycles are allowed in services.gateway." in report_on_planted


def _imported_by(folder: str) -> set[str]:
    """Name the packages outside the standard library that files of a folder import, be it when called."""
    names = {
        name.partition(".")[0]
        for path in python_files(folder.partition("/")[0])
        if path.startswith(f"{folder}/")
        for node in nodes(path)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    return names - set(sys.stdlib_module_names)


def test_contracts_need_pydantic_and_nothing_else() -> None:
    assert _imported_by("contracts") == {"pydantic", "contracts"}


def test_the_client_needs_what_it_declares_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    declared = {Requirement(line).name for line in [*project["dependencies"], *extras]}
    assert _imported_by("clients/python") == declared | {"saccade_client"}


def test_the_robots_client_needs_what_it_declares_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "clients/lerobot/robot_client/pyproject.toml").read_text())["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == {"nats-py"}
    assert _imported_by("clients/lerobot/robot_client") == {"nats", "saccade_robot"}


def _loaded_by(code: str) -> set[str]:
    """Run code in a process of its own and tell which top-level packages it loaded."""
    show = "; import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + show], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("service", ["gateway", "dispatcher", "notifier"])
def test_importing_a_service_loads_nothing_heavy(service: str) -> None:
    loaded = _loaded_by(f"import services.{service}.app, services.{service}.__main__; {EVERY_WORKLOAD}")
    assert "nats" in loaded, "the budget is measured on the real service"
    assert loaded & (HEAVY | UNUSED) == set()


def test_the_catalog_loads_no_server_and_nothing_heavy() -> None:
    loaded = _loaded_by(EVERY_WORKLOAD)
    assert loaded & (HEAVY | SERVERS) == set()


@pytest.mark.parametrize("code", ["", "; from click.testing import CliRunner; CliRunner().invoke(saccade, ['--help'])"])
def test_the_command_line_starts_light(code: str) -> None:
    loaded = _loaded_by(f"from cli.__main__ import saccade{code}")
    assert "click" in loaded
    assert loaded & (HEAVY | SERVERS) == set()
