"""Lists of jobs while the server reads its history, in clients, command and console (ADR 0050).

Who asks for it is told what a list lacks; who does not gets none before it is whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from saccade_client.history_views import IncompleteView

from tests.harness.clients.console_browser import console_tab
from tests.harness.clients.javascript_client import use
from tests.harness.clients.node import find_node
from tests.harness.clients.python_clients import CLIENT_KINDS, opener
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.servers.held_tail import Hold, held_tails
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio
#: A list that is not whole does not come within this time.
_WAITS_S = 1.5


@dataclass
class Late:
    """A gateway that has read a part of the history."""

    url: str
    running: RunningGateway
    hold: Hold
    #: A job that it has read, and a newer one that it has not.
    old: str
    new: str
    lacks: dict[str, object]

    async def catch_up(self) -> None:
        """Let it read the rest."""
        await self.hold.release(self.running.tail)


@pytest.fixture
async def late(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Late]:
    servers = nats_server.settings, s3_server.settings
    async with running_gateway(*servers, tmp_path / "first") as running:
        old = (await running.submitted(await running.uploaded()))["id"]
        position = running.tail.last
        new = (await running.submitted(await running.uploaded()))["id"]
        missing = running.tail.last - position
    assert missing > 0
    with held_tails(monkeypatch, position) as hold:
        async with served_gateway(*servers, tmp_path / "late", hold=hold.reached) as (running, url):
            lacks = {"read_to": f"{running.tail.epoch}.{position}", "events_missing": missing}
            yield Late(url, running, hold, old, new, lacks)


async def assert_waits(task: asyncio.Task[object]) -> None:
    """Check that a task does not end by itself."""
    done, _ = await asyncio.wait([task], timeout=_WAITS_S)
    assert not done, "a list that lacks something was given to who did not ask for it"


@pytest.mark.parametrize("kind", CLIENT_KINDS)
async def test_a_python_client_is_told_what_is_missing(late: Late, kind: str) -> None:
    told: list[IncompleteView] = []
    async with opener(kind)(late.url) as client:

        async def whole() -> list[str]:
            return [job.id async for job in client.jobs()]

        assert [job.id async for job in client.jobs(on_incomplete=told.append)] == [late.old]
        assert [lacks.model_dump() for lacks in told] == [late.lacks]
        waiting = asyncio.create_task(whole())
        await assert_waits(waiting)
        await late.catch_up()
        async with asyncio.timeout(60):
            assert await waiting == [late.new, late.old]
        assert [job.id async for job in client.jobs(on_incomplete=told.append)] == [late.new, late.old]
    assert len(told) == 1, "nothing is missing any more"


async def test_the_javascript_client_is_told_what_is_missing(late: Late) -> None:
    find_node()
    assert await use("incompleteJobs", late.url) == {"told": [late.lacks], "listed": [late.old]}
    waiting = asyncio.create_task(use("wholeJobs", late.url))
    await assert_waits(waiting)
    await late.catch_up()
    async with asyncio.timeout(60):
        assert await waiting == [late.new, late.old]
    assert await use("incompleteJobs", late.url) == {"told": [], "listed": [late.new, late.old]}


async def listed(late: Late, *words: str) -> tuple[str, str]:
    """Return what the command lists, and what it notes besides."""
    command = [sys.executable, "-m", "cli", "jobs", "--url", late.url, *words]
    pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
    started = await asyncio.create_subprocess_exec(*command, env={**os.environ}, **pipes)  # noqa: TID251
    out, noted = await asyncio.wait_for(started.communicate(), 120)
    assert started.returncode == 0, noted.decode()
    return out.decode(), noted.decode()


async def test_the_command_notes_what_is_missing_and_writes_no_json_that_lacks_something(late: Late) -> None:
    note = f"jobs of the newest {late.lacks['events_missing']} events are missing, or shown as they were."
    out, noted = await listed(late)
    assert note in noted
    assert (late.old in out, late.new in out) == (True, False)
    waiting = asyncio.create_task(listed(late, "--json"))
    await assert_waits(waiting)
    await late.catch_up()
    out, noted = await waiting
    assert [json.loads(line)["id"] for line in out.splitlines()] == [late.new, late.old]
    assert note not in noted
    out, noted = await listed(late)
    assert (late.new in out, "missing" in noted) == (True, False)


async def test_the_console_says_what_is_missing_until_it_is_read(late: Late) -> None:
    hint, rows = "[...document.querySelectorAll('main p[role=status]')].map((p) => p.innerText).join()", "tr[data-id]"
    shown = f"[...document.querySelectorAll('{rows}')].map((row) => row.dataset.id).join()"
    told = f"Jobs of the newest {late.lacks['events_missing']} events are missing here or shown in an older state."
    async with console_tab(late.url, "/console/jobs") as tab:
        await tab.until_heading("Jobs")
        await tab.until(shown, late.old)
        assert told in re.sub(r"\s+", " ", await tab.evaluate(hint))
        await late.catch_up()
        # Not with the mouse: there is no notifier here, and what says so moves the button.
        await tab.evaluate("document.querySelector('main p[role=status] button').click()")
        await tab.until(shown, f"{late.new},{late.old}")
        assert told not in await tab.evaluate(hint)
