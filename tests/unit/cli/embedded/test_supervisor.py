"""How long a supervisor waits for the start of a child: for one that says that it is starting, as long as it takes."""

from __future__ import annotations

import asyncio
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


class Deaf:
    """A check that loses ``times`` cancellations, as a request by nats-py does when its answer comes with one."""

    def __init__(self, times: int) -> None:
        self._left = times
        self.asked = asyncio.Event()

    async def write_error(self) -> str | None:
        while True:
            self.asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not self._left:
                    raise
                self._left -= 1
                return None


@pytest.mark.parametrize("lost", [1, 3])
async def test_a_check_that_loses_its_cancellation_does_not_keep_the_system(
    lost: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `saccade up` whose check of the bus lost it waited for that check for ever, with all its children ended."""
    monkeypatch.setattr(supervisor, "_WRITE_CHECK_S", 0.01)
    check, data = Deaf(lost), DataFolder(tmp_path)
    running = Supervisor(data, {}, print)
    try:
        await running.start([Program("child", COMMAND, Child(0).is_ready, write_error=check.write_error)])
        async with asyncio.timeout(15):
            await check.asked.wait()
            await running.stop(["child"])
            await running.close()
    finally:
        data.release()


async def test_a_child_that_is_not_ended_in_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel does not end, because it waits for a disk, is left to it: here no signal reaches the child."""
    monkeypatch.setattr(supervisor, "_KILLED_S", 0.1)
    monkeypatch.setattr(supervisor, "_send", lambda *_: None)
    told: list[str] = []
    data = DataFolder(tmp_path)
    running = Supervisor(data, {}, told.append)
    try:
        await running.start([Program("child", COMMAND, Child(0).is_ready)])
        process_id = running.process_id("child") or 0
        await running.close()
        assert told == [f"child (process {process_id}) has not ended 0.1 s after SIGKILL; it is left to the system."]
    finally:
        monkeypatch.undo()
        await running.close()
        data.release()
