"""Runs the command blocks of a document as its reader does: in a fresh checkout, one after the other."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.embedded.leftover_processes import end_workers
from cli.embedded.processes import children_of
from tests.harness.servers.embedded import HOST, ROOT, free_port
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.rules.tree import files

_BLOCK = re.compile(r"^( *)(?:<!-- not run: ([^\n]*) -->\n\1)?```sh\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
#: File of ``.venv`` whose time tells make what has been installed.
_SENTINEL = re.compile(r"^\$\(VENV\)/(\.[a-z]+):", re.MULTILINE)
#: The system that a reader has started in another shell: these lines have been run already.
_STARTED = re.compile(r"^(?:make up|(?:\.venv/bin/)?saccade up)(?:\s+#.*)?$", re.MULTILINE)
#: What a reader replaces with the id that was printed.
_REPLACED = {"JOB_ID": "$(newest jobs)", "SESSION_ID": "$(newest sessions)"}
#: An answer that is an error ends the script, though curl by itself shows it and succeeds.
_PRELUDE = """
set -eo pipefail
curl() { command curl --fail-with-body "$@"; }
newest() { command curl -s -H "authorization: Bearer $SACCADE_API_KEY" "$SACCADE_URL/v1/$1?limit=1" \\
  | python3 -c 'import json,sys; print(json.load(sys.stdin)["data"][0]["id"])'; }
"""
#: What `make test ARGS=-v` passes to every make below it, where it wins over the environment.
_OF_MAKE = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ARGS")
_DOCUMENT_S, _START_S = 300, 120


@dataclass(frozen=True)
class Block:
    """One block of commands, its first line, and why it is not run; empty if it is."""

    document: str
    line: int
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(document: str) -> list[Block]:
    """Return a document's blocks of commands, in order."""
    text = (ROOT / document).read_text()
    return [
        Block(
            document,
            text.count("\n", 0, found.start(3)) + 1,
            re.sub(f"^{found[1]}", "", found[3], flags=re.MULTILINE),
            found[2] or "",
        )
        for found in _BLOCK.finditer(text)
    ]


@dataclass(frozen=True)
class Checkout:
    """What a clone would hold, with the packages of this environment and a system that runs."""

    folder: Path
    url: str
    key: str = ""

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of its reader's shell: the code comes from the checkout."""
        code = (self.folder, self.folder / "clients/python", self.folder / "clients/lerobot/robot_client")
        kept = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - the shell's
            if not name.startswith("SACCADE_") and name not in _OF_MAKE
        }
        return kept | {
            "PATH": f"{self.folder / '.venv/bin'}{os.pathsep}{kept['PATH']}",
            "PYTHONPATH": os.pathsep.join(map(str, code)),
            "SACCADE_URL": self.url,
            "SACCADE_API_KEY": self.key,
            **more,
        }

    def run(self, blocks: Iterable[Block]) -> None:
        """Run blocks in one shell, and name the block that fails."""
        parts = [_PRELUDE]
        for block in blocks:
            text = _STARTED.sub(":", block.text).replace("http://127.0.0.1:8080", self.url)
            for word, value in _REPLACED.items():
                text = re.sub(rf"\b{word}\b", value, text)
            parts.append(f"echo '== {block}' >&2\n{text}")
        done = subprocess.run(
            ["bash", "-c", "\n".join(parts)],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=_DOCUMENT_S,
        )
        assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def check_out(folder: Path) -> None:
    """Copy what git tracks or would track, and let ``.venv`` hold the packages of this environment."""
    for path in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    venv = folder / ".venv"
    venv.mkdir()
    for name in ("bin", "lib", "include", "pyvenv.cfg"):
        (venv / name).symlink_to(Path(sys.prefix) / name)
    # For make: everything is installed, at one time. With one of them newer than the others it would install again, and
    # let the packages of this environment be those of the folder.
    now_s = time.time()
    for name in _SENTINEL.findall((ROOT / "Makefile").read_text()):
        (venv / name).touch()
        os.utime(venv / name, (now_s, now_s))


@contextmanager
def running_checkout(folder: Path) -> Iterator[Checkout]:
    """Check out, type ``make up`` and wait until it is ready; leave no process behind."""
    check_out(folder)
    port = free_port()
    checkout = Checkout(folder, f"http://{HOST}:{port}")
    log = folder / "up.log"
    with log.open("w") as output:
        up = subprocess.Popen(
            ["make", "up"],
            cwd=folder,
            env=checkout.environment(ARGS=f"--port {port}"),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + _START_S
        while not _is_ready(checkout.url):
            assert up.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield checkout
        os.killpg(up.pid, signal.SIGINT)
        up.wait(timeout=60)
    finally:
        if up.poll() is None:
            os.killpg(up.pid, signal.SIGKILL)
            up.wait(timeout=30)
        for process in children_of(folder / ".saccade"):
            process.kill()
        end_workers(folder / ".saccade", grace_s=0.0)


def _is_ready(url: str) -> bool:
    try:
        return bool(
            httpx.get(f"{url}/health", trust_env=False, timeout=5, verify=NO_CERTIFICATES).json()["status"] == "ok"
        )
    except (httpx.TransportError, ValueError, KeyError):
        return False
