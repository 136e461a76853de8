"""Node for the JavaScript clients' tests; installs the pinned packages once, into a cache."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / "tests" / "clients_js"
MODULE = ROOT / "clients" / "js" / "saccade.js"
_INSTALL_S = 120.0


def find_node() -> str:
    """Return the path of Node 18 or newer, or skip the test."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    version = subprocess.run(
        [node, "--version"], check=True, capture_output=True, text=True, timeout=300
    ).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < 18:
        pytest.skip(f"node is too old: {version}")
    return node


def installed_packages(packages: Path = PACKAGES) -> Path:
    """Return a folder with the ``node_modules`` of the lock file, or skip the test.

    It lies in the user's cache and is made where it is not there, which needs the package index.
    """
    npm = shutil.which("npm")
    files = [packages / "package.json", packages / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path.home() / ".cache" / "saccade-tests" / f"npm-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes want it at once
        if done.exists():
            return folder
        if npm is None:
            pytest.skip("npm is not installed")
        for file in files:
            shutil.copy(file, folder)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            made = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=_INSTALL_S)
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm packages could not be installed within {_INSTALL_S:.0f} s")
        if made.returncode:
            lines = made.stderr.strip().splitlines() or ["no reason given"]
            pytest.skip(f"npm packages could not be installed: {lines[0]}")
        done.touch()
    return folder


async def in_node(wanted: Mapping[str, Sequence[object]], *, packages: bool = True) -> dict[str, Any]:
    """Run clients of tests/clients_js in one Node: ``{name: [client, ...arguments]}`` to ``{name: result}``."""
    folder = installed_packages() if packages else PACKAGES
    command = [find_node(), str(PACKAGES / "in_node.mjs"), str(folder), MODULE.as_uri(), json.dumps(wanted)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found
