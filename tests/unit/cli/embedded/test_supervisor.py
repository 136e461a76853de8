"""How long a supervisor waits for the start of a child: for one that says that it is starting, as long as it takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cli.embedded import supervisor
from cli.embedded.data_folder import DataFolder
from cli.embedded.processes import Program
from cli.embedded.supervisor import Supervisor
from cli.failure import Failure

pytestmark = pytest.mark.anyio
COMMAND = (sys.executable, "-c", "import time; time.sleep(60)")


class Child:
    """A child that is ready when it was asked so often whether it is starting; None: it answers nothing."""

    def __init__(self, answers: int | None) -> None:
        self.asked = 0
        self._answers = answers

    async def is_ready(self) -> bool:
        return self._answers is not None and self.asked >= self._answers

    async def is_starting(self) -> bool:
        self.asked += 1
        return self._answers is not None


async def start(folder: Path, child: Child) -> list[str]:
    """Start it, and return what the user is told."""
    told: list[str] = []
    data = DataFolder(folder)
    running = Supervisor(data, {}, told.append)
    try:
        await running.start([Program("child", COMMAND, child.is_ready, is_starting=child.is_starting)])
    finally:
        await running.close()
        data.release()
    return told


async def test_a_child_that_is_starting_is_waited_for_beyond_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_READY_S", 0.1)
    assert await start(tmp_path, child := Child(3)) == ["child is still reading its history."]
    assert child.asked == 3


async def test_a_child_that_says_nothing_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_READY_S", 0.1)
    with pytest.raises(Failure, match="child was not ready"):
        await start(tmp_path, Child(None))
