"""The console's vendored modules are what their lock file and build script make, byte for byte."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.harness.clients.node import find_node, installed_packages

_ROOT: Final = Path(__file__).parents[3]
_BUILD: Final = Path("deploy/console")
_VENDOR: Final = Path("services/gateway/console/vendor")


def test_the_build_makes_what_is_committed(tmp_path: Path) -> None:
    node, packages = find_node(), installed_packages(_ROOT / _BUILD)
    shutil.copytree(_ROOT / _BUILD, tmp_path / _BUILD, ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / _BUILD / "node_modules").symlink_to(packages / "node_modules")
    (tmp_path / "clients" / "js").mkdir(parents=True)
    shutil.copy(_ROOT / "clients" / "js" / "saccade.js", tmp_path / "clients" / "js")
    (tmp_path / _VENDOR).mkdir(parents=True)
    made = subprocess.run(
        [node, "build.mjs"], cwd=tmp_path / _BUILD, check=False, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr
    committed = {path.name: path.read_bytes() for path in (_ROOT / _VENDOR).iterdir()}
    built = {path.name: path.read_bytes() for path in (tmp_path / _VENDOR).iterdir()}
    assert sorted(built) == sorted(committed)
    assert [name for name in built if built[name] != committed[name]] == []
