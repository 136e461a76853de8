"""Every line of the documents that installs something of ours, run in one clean environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.harness.clients.node import find_node
from tests.harness.servers.loopback_tls import environment_with_authorities
from tests.rules.tree import ROOT, files

UV = Path(sys.executable).with_name("uv")
LINE = re.compile(r"\b(pip|npm) install ([^\n`]+)")
#: A folder of the repository, with extras.
FOLDER = re.compile(r"(?:\.|(?:\./)?(?:contracts|clients/[\w/]+))(?:\[[\w,-]+\])?")
FOUND = {
    (tool, word.strip("'\""))
    for path in files()
    if path.endswith(".md")
    for tool, words in LINE.findall((ROOT / path).read_text())
    for word in words.replace(")", " ").split()
    if FOLDER.fullmatch(word.strip("'\""))
}
PYTHON = sorted(target for tool, target in FOUND if tool == "pip")
#: What a folder installs, and the module that is imported.
MODULES = {
    "contracts": ("saccade-contracts", "contracts"),
    "clients/events": ("saccade-events", "saccade_events"),
    "clients/python": ("saccade-client", "saccade_client"),
    "clients/lerobot/robot_client": ("saccade-robot", "saccade_robot"),
    "clients/lerobot/plugin": ("lerobot_robot_saccade", "lerobot_robot_saccade"),
    ".": ("saccade-server", "cli"),
}


def folder_of(target: str) -> str:
    return target.partition("[")[0].removeprefix("./") or "."


def uv(*arguments: str) -> str:
    command = [str(UV), "--quiet", *arguments]
    environment = environment_with_authorities()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment and install every folder that the documents name, without what they depend on."""
    folder, clone = tmp_path_factory.mktemp("clean") / "environment", tmp_path_factory.mktemp("clone")
    for path in files():  # a build leaves files behind, which the next one would pack
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, clone / path)
    uv("venv", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    uv("pip", "install", "--python", str(python), "--no-deps", *sorted({str(clone / folder_of(one)) for one in PYTHON}))
    return python


def test_the_documents_install_every_distribution() -> None:
    assert {folder_of(target) for target in PYTHON} == MODULES.keys()
    assert ("npm", "./clients/js") in FOUND


@pytest.mark.parametrize("folder", MODULES)
def test_what_is_installed_has_the_documented_name_and_module(clean: Path, folder: str) -> None:
    name, module = MODULES[folder]
    code = (
        f"import importlib.metadata as found, importlib.util as look, json; "
        f"print(json.dumps([found.distribution({name!r}).name, look.find_spec({module!r}).origin]))"
    )
    done = subprocess.run([clean, "-c", code], cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    distribution, origin = json.loads(done.stdout)
    assert distribution == name
    assert Path(origin).is_relative_to(clean.parents[1])


def test_the_installed_client_runs_with_its_dependencies(clean: Path) -> None:
    """Those are taken from this environment: what is tested is the package, not the index."""
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": os.defpath}
    code = "import saccade_client, saccade_robot; print(saccade_client.__file__, saccade_client.Client.__name__)"
    command = [clean, "-c", code]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(clean.parents[1]))
    saccade = subprocess.run(
        [clean.with_name("saccade"), "--version"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert saccade.returncode == 0, saccade.stderr


def test_reactions_run_on_the_installed_contracts_alone(clean: Path) -> None:
    """What they depend on is taken from this environment, and nothing of the servers is loaded."""
    environment = {"PYTHONPATH": sysconfig.get_path("purelib"), "PATH": os.defpath}
    code = (
        "import contracts.events, saccade_events, saccade_events.metrics, saccade_events.traces, sys; "
        "from contracts.events.job import JobSucceeded; "
        "reactions = saccade_events.Reactions('billing'); "
        "exec('async def handler(event): pass'); reactions.on(JobSucceeded)(handler); reactions.router(); "
        "assert not {'kit', 'services', 'cli', 'modal_workers'} & set(sys.modules); "
        "print(contracts.events.__file__, saccade_events.__file__)"
    )
    done = subprocess.run(
        [clean, "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert all(Path(path).is_relative_to(clean.parents[1]) for path in done.stdout.split())


def test_node_finds_the_package_by_its_documented_name(tmp_path: Path) -> None:
    found = re.search(r"from \"([^\"]+)\"", (ROOT / "clients/js/README.md").read_text())
    assert found
    modules = tmp_path / "node_modules"
    modules.mkdir()
    # As `npm install ./clients/js` does.
    name = json.loads((ROOT / "clients/js/package.json").read_text())["name"]
    (modules / name).symlink_to(ROOT / "clients" / "js")
    (tmp_path / "run.mjs").write_text(f'import {{ Client }} from "{found[1]}"; console.log(typeof Client);')
    done = subprocess.run(
        [find_node(), "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout == "function\n", done.stderr
