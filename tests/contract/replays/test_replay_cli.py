"""``saccade replay``: plan, expected count, events as lines, a file, lists; Ctrl-C leaves the replay alone."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import saccade
from cli.failure import INTERRUPTED, Failure
from contracts.ids import new_id
from kit.history.segments import SegmentFile
from tests.harness.replays.history import KnownHistory, publish_history
from tests.harness.servers.embedded import NatsServer
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.streams.notifier import NotifierProcess, Publisher, publisher

pytestmark = pytest.mark.anyio

WHY = ("--why", "test")


@pytest.fixture
async def jobs(nats_server: NatsServer) -> AsyncIterator[Publisher]:
    async with publisher(nats_server.settings) as found:
        yield found


@pytest.fixture
async def known(jobs: Publisher) -> KnownHistory:
    return await publish_history(jobs.store, 30)


@pytest.fixture
def url(nats_server: NatsServer, known: KnownHistory) -> Iterator[str]:
    with NotifierProcess(nats_server.settings) as process:
        yield process.url


async def run(url: str, *words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, saccade, ["replay", *words, "--url", url])


async def test_a_dry_run_counts_and_sends_nothing(url: str, known: KnownHistory) -> None:
    shown = await run(url, "--since", "1h", "--into", "sse", *WHY, "--dry-run", "--json")
    assert shown.exit_code == 0, shown.output
    plan = json.loads(shown.stdout)
    assert (plan["state"], plan["plan"]["count"]) == ("planned", len(known.events))
    listed = await run(url, "ls", "--json")
    assert json.loads(listed.stdout)["state"] == "planned"
    differs = await run(url, "start", plan["id"], "--expect", "7")
    assert isinstance(differs.exception, Failure)
    assert differs.exception.code == "replay_count_differs"
    assert "is cancelled" in (await run(url, "cancel", plan["id"], "--why", "enough")).output


async def test_events_into_sse_are_lines_on_standard_output(url: str, known: KnownHistory) -> None:
    shown = await run(url, "--since", "1h", "--into", "sse", "--speed", "max", *WHY)
    assert shown.exit_code == 0, shown.output
    assert [line.encode() for line in shown.stdout.splitlines()] == [event.body for event in known.events]
    assert "Completed: 30 of 30 sent." in shown.stderr


async def test_a_file_is_a_segment_that_verifies(url: str, known: KnownHistory, tmp_path: Path) -> None:
    path = tmp_path / "window.ndjson.zst"
    shown = await run(url, "--since", "1h", "--into", str(path), "--speed", "max", "--type", "job.failed", *WHY)
    assert shown.exit_code == 0, shown.output
    segment = SegmentFile(path.read_bytes())
    segment.verify()
    expected = [event for event in known.events if event.subject.endswith(".failed")]
    assert [(event.sequence, event.body) for event in segment.events()] == [
        (event.sequence, event.body) for event in expected
    ]
    again = await run(url, "--since", "1h", "--into", str(path), *WHY)
    assert isinstance(again.exception, Failure)
    assert again.exception.code == "file_exists"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--since", "1h", "--into", "mail", *WHY), "usage"),
        (("--since", "1h", "--into", "sse", "--rate", "fast", *WHY), "usage"),
        (("--since", "1h", "--into", "sse", "--type", "job.eaten", *WHY), "unknown_type"),
        (("--since", "soon", "--into", "sse", *WHY), "invalid_parameter"),
    ],
)
async def test_what_is_wrong_is_said(url: str, words: tuple[str, ...], code: str) -> None:
    failed = await run(url, *words)
    assert isinstance(failed.exception, Failure)
    assert failed.exception.code == code
    assert (await run(url, "--since", "1h", "--into", "sse")).exit_code == 2


async def test_ctrl_c_leaves_the_replay_at_the_server(url: str) -> None:
    command = [
        sys.executable,
        "-m",
        "cli",
        "replay",
        "--since",
        "1h",
        "--into",
        "sse",
        "--rate",
        "5/s",
        "--speed",
        "max",
    ]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, *WHY, "--url", url, env=ONE_AUTHORITY, stdout=pipe, stderr=pipe
    )
    try:
        assert process.stdout
        async with asyncio.timeout(60):
            first = await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, printed = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    notes = printed.decode()
    assert json.loads(first)["specversion"] == "1.0"
    assert process.returncode == INTERRUPTED, notes
    assert "saccade replay follow rpl_" in notes
    assert "saccade replay cancel rpl_" in notes
    (replay,) = [json.loads(line) for line in (await run(url, "ls", "--json")).stdout.splitlines()]
    assert replay["state"] == "running"
    after = notes.partition("--after ")[2].split()[0]
    followed = await run(url, "follow", replay["id"], "--after", after)
    sequences = int(after.partition(".")[2])
    assert followed.exit_code == 0, followed.output
    assert len(followed.stdout.splitlines()) == 30 - sequences


async def test_a_webhook_is_asked_for_before_anything_is_sent(url: str) -> None:
    unknown = await run(url, "--since", "1h", "--into", f"webhook:{new_id('whk')}", *WHY)
    assert isinstance(unknown.exception, Failure)
    assert unknown.exception.code == "webhooks_not_configured"
