"""The service of docs/own-service.md, taken out of the page and run in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.harness.servers.embedded import ROOT
from tests.harness.servers.loopback_tls import ONE_AUTHORITY

_PAGE = ROOT / "docs" / "own-service.md"
#: Where the two packages are that a user has installed.
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "events")))
_SOON_S = 60.0


def code_of_the_page() -> str:
    """Return the page's Python block, which is the whole service."""
    blocks = re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 1, "the page has one service"
    return str(blocks[0])


class OwnService:
    """A user's process in a folder, with the file of its bills."""

    def __init__(self, folder: Path, url: str, credentials: Path, name: str = "billing") -> None:
        self._folder = folder
        code = code_of_the_page()
        assert code.count('Reactions("billing")') == 1
        (folder / "billing.py").write_text(code.replace('Reactions("billing")', f'Reactions("{name}")'))
        self._environment = {
            "PATH": os.environ["PATH"],  # noqa: TID251 - of this environment
            "PYTHONPATH": PATHS,
            "NATS_URL": url,
            "NATS_CREDENTIALS_FILE": str(credentials),
            **ONE_AUTHORITY,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        with (self._folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "billing.py"], cwd=self._folder, env=self._environment, stdout=log, stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self._process
        self._process.send_signal(number)
        return self._process.wait(30)

    def bills(self) -> list[tuple[str, float]]:
        """Return job and amount of each bill."""
        with contextlib.closing(sqlite3.connect(self._folder / "bills.sqlite3")) as file:
            try:
                return file.execute("SELECT job, usd FROM bills").fetchall()
            except sqlite3.OperationalError:  # it has not made its table yet
                return []

    def wait_for_bills(self, number: int) -> None:
        """Wait until it has written so many bills.

        Raises:
            AssertionError: it has ended, or takes too long.
        """
        assert self._process
        end = time.monotonic() + _SOON_S
        while len(self.bills()) < number:
            log = (self._folder / "service.log").read_text()
            assert self._process.poll() is None, log
            assert time.monotonic() < end, f"{len(self.bills())} of {number} bills; {log}"
            time.sleep(0.02)
