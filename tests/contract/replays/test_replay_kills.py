"""A replay whose notifier, or whose reader, is killed again and again: every event once, in order, with its bytes.

``make soak`` makes 20 kills of each, ``make test`` a fixed small share.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from saccade_client import AsyncClient

from contracts.streams import OPS
from kit.bus.event_store import EventStore
from kit.history.segments import SegmentFile
from tests.harness.replays.history import publish_history
from tests.harness.servers.embedded import NatsServer
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.streams.notifier import NotifierProcess, publisher

pytestmark = pytest.mark.anyio

FULL_RUNS, FULL_KILLS = 200, 20


def kills(soak_runs: int) -> int:
    return max(2, soak_runs * FULL_KILLS // FULL_RUNS)


@pytest.mark.soak
@pytest.mark.timeout(1200)  # a soak is long; each wait in it has a limit of its own
async def test_a_stream_over_killed_notifiers_has_every_event_once(
    nats_server: NatsServer, seed: int, soak_runs: int
) -> None:
    chance = random.Random(seed)
    async with publisher(nats_server.settings) as jobs:
        events = (await publish_history(jobs.store, 400 * kills(soak_runs), seed)).events
        with NotifierProcess(nats_server.settings) as notifier:
            async with AsyncClient(notifier.url, silence_s=10) as client:
                made = await client.replays.plan("sse", 3600, rate_per_s=400, speed="max", why="soak")
                await client.replays.start(made.id, made.count)
                at = sorted(chance.sample(range(1, len(events)), kills(soak_runs)))
                got: list[tuple[int, bytes]] = []
                stream = client.replays.stream(made.id)
                async with asyncio.timeout(60 + len(events) / 100):
                    async for event in stream:
                        got.append((event.sequence, event.body))
                        if at and len(got) >= at[0]:
                            at.pop(0)
                            await asyncio.to_thread(notifier.stop, signal.SIGKILL)
                            await asyncio.to_thread(notifier.start)
                assert got == [(event.sequence, event.body) for event in events], f"seed {seed}"
                assert stream.state == "completed"
                ended = await client.replays.get(made.id)
                assert ended.state == "completed"
                assert ended.progress
                assert ended.progress["sent"] == len(events)
        records = [record async for record in EventStore(jobs.client, OPS.name).history(0)]
        assert [record.subject.rpartition(".")[2] for record in records[-2:]] == ["end_requested", "completed"]


@pytest.mark.soak
@pytest.mark.timeout(1200)  # a soak is long; each wait in it has a limit of its own
async def test_a_file_over_kills_of_both_ends_has_the_bytes_of_one_without(
    nats_server: NatsServer, tmp_path: Path, seed: int, soak_runs: int
) -> None:
    chance = random.Random(seed)
    async with publisher(nats_server.settings) as jobs:
        events = (await publish_history(jobs.store, 3500, seed)).events
        with NotifierProcess(nats_server.settings) as notifier:

            def saccade(*words: str) -> subprocess.Popen[bytes]:
                command = [sys.executable, "-m", "cli", "replay", *words, "--url", notifier.url]
                return subprocess.Popen(command, env=ONE_AUTHORITY, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

            whole, broken = tmp_path / "whole.ndjson.zst", tmp_path / "broken.ndjson.zst"
            options = ["--since", "1h", "--why", "test", "--until"]
            async with AsyncClient(notifier.url) as client:
                until = (await client.replays.plan("file", 3600)).window["until"]
                first = await asyncio.to_thread(
                    saccade(*options, until, "--into", str(whole), "--speed", "max").communicate, timeout=60
                )
                assert b"3500 events" in first[1], first
                made = await client.replays.plan("file", 3600, until=until, rate_per_s=1500, speed="max")
                await client.replays.start(made.id, made.count)
                for _ in range(kills(soak_runs)):
                    process = saccade("follow", made.id, "--into", str(broken))
                    await asyncio.sleep(chance.uniform(0.5, 3))
                    if chance.random() < 0.5:
                        await asyncio.to_thread(notifier.stop, signal.SIGKILL)
                        await asyncio.to_thread(notifier.start)
                        await asyncio.sleep(chance.uniform(0, 1))
                    process.kill()
                    await asyncio.to_thread(process.communicate, timeout=10)
                    if process.returncode == 0:
                        break
                last = await asyncio.to_thread(
                    saccade("follow", made.id, "--into", str(broken)).communicate, timeout=60
                )
                assert broken.read_bytes() == whole.read_bytes(), (f"seed {seed}", last)
        found = SegmentFile(whole.read_bytes())
        found.verify()
        assert [(event.sequence, event.body) for event in found.events()] == [
            (event.sequence, event.body) for event in events
        ]
