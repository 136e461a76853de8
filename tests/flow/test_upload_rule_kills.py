"""Dispatchers are killed, the broker is restarted, consumers are deleted: each job once, none missing, no letter more.

``make soak`` plays a thousand uploads of three rules, 30 kills and 5 restarts; ``make test`` a fixed small share.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest

from contracts.events.base import Envelope, Message, subject_of
from contracts.events.job import JobSubmitted
from contracts.ids import derived_id, new_id
from contracts.streams import DEADLETTERS
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from tests.harness.rules.dispatcher_process import DispatcherProcess
from tests.harness.rules.rule_events import TENANT
from tests.harness.rules.rule_nodes import RuleHarness, open_rule_harness
from tests.harness.servers.embedded import EmbeddedNats, S3Server

pytestmark = pytest.mark.anyio

CONSUMER = "dispatcher-upload-completed"
#: ``make soak`` makes so many runs; then this is what issue 17 asks for.
FULL_RUNS = 200
FULL_UPLOADS, FULL_KILLS, FULL_RESTARTS = 1000, 30, 5


class Storm:
    """Everything that happens to the system of one test, at random, until all uploads are published."""

    def __init__(self, harness: RuleHarness, server: EmbeddedNats, chance: random.Random, share: float) -> None:
        self.harness, self.server, self.chance = harness, server, chance
        self.uploads: list[str] = []
        self.pairs: dict[str, list[str]] = {}
        self.unreadable: list[str] = []
        self.count = 2 * max(15, round(FULL_UPLOADS * share / 2))
        self.kills = max(2, round(FULL_KILLS * share))
        self.restarts = max(1, round(FULL_RESTARTS * share))
        #: Lengths of a kill and of a restart, about; the uploads are spread over them.
        self.seconds = 2.5 * self.kills + 2.0 * self.restarts

    async def publish(self) -> None:
        """Publish the uploads, and now and then an event that nobody can read."""
        pause_s = self.seconds / self.count
        for number in range(self.count):
            pair = f"{number // 2}"
            upload_id, _ = await self.harness.upload(f"{number}.jpg", metadata={"pair": pair, "number": f"{number}"})
            self.uploads.append(upload_id)
            self.pairs.setdefault(pair, []).append(upload_id)
            if number % 50 == 7:
                await self._publish_unreadable()
            await asyncio.sleep(self.chance.uniform(0, 2 * pause_s))

    async def _publish_unreadable(self) -> None:
        upload_id = new_id("upl")
        subject = subject_of("evt", TENANT, "upload", upload_id, "completed")
        await self.harness.store.publish(Message(subject=subject, id=new_id("evt"), body=b'{"unreadable": true}'))
        self.unreadable.append(subject)

    async def kill(self, dispatchers: list[DispatcherProcess]) -> None:
        """Kill one of the dispatchers, let it be away for a moment, and start it again."""
        for _ in range(self.kills):
            await asyncio.sleep(self.chance.uniform(0.2, 2 * self.seconds / self.kills - 0.5))
            victim = self.chance.choice(dispatchers)
            victim.kill()
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
            victim.start()

    async def restart(self) -> None:
        """Kill the broker and start it again, and delete the reaction's consumer."""
        for _ in range(self.restarts):
            await asyncio.sleep(self.chance.uniform(0.5, self.seconds / self.restarts))
            await asyncio.to_thread(self.server.kill)
            await asyncio.to_thread(self.server.start)
            await asyncio.sleep(self.chance.uniform(0.2, 1.0))
            with contextlib.suppress(Exception):
                await request(self.harness.client, f"CONSUMER.DELETE.EVENTS.{CONSUMER}", {})


async def _submitted(harness: RuleHarness) -> list[Envelope]:
    return await harness.events("saccade.evt.*.job.*.submitted")


def _latencies_s(jobs: list[Envelope], completed: dict[str, datetime]) -> list[float]:
    """Return the time from the last upload of each job to the job."""
    found = []
    for envelope in jobs:
        rule = JobSubmitted.model_validate(envelope.data).rule
        assert rule
        found.append((envelope.time - max(completed[upload_id] for upload_id in rule.upload_ids)).total_seconds())
    return sorted(found)


async def _what_is_missing(harness: RuleHarness, wanted: set[str], storm: Storm, log: Path) -> str:
    """Return what a failed run leaves to look at."""
    jobs = {one.subject for one in await _submitted(harness)}
    additions, closings = await harness.additions(), await harness.closings()
    consumer = await request(harness.client, f"CONSUMER.INFO.EVENTS.{CONSUMER}", {})
    missing = [upload_id for upload_id in storm.uploads if upload_id not in {one.upload_id for one in additions}]
    return (
        f"{len(wanted - jobs)} of {len(wanted)} jobs are missing; {len(closings)} of {len(storm.pairs)} groups closed,"
        f" {len([one for one in closings if one.job_id not in jobs])} without a job; not in a group: {missing};"
        f" consumer: {consumer}; log: {log.read_text()[-6000:]}"
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)  # a soak is long; each wait in it has a limit of its own
async def test_each_job_once_and_none_missing_whatever_dies(
    nats_server: EmbeddedNats, s3_server: S3Server, tmp_path: Path, seed: int, soak_runs: int
) -> None:
    chance = random.Random(seed)
    async with open_rule_harness(nats_server.settings) as harness:
        each = [await harness.rule(jobs_per_day=100_000), await harness.rule(jobs_per_day=100_000, priority=1)]
        pair = await harness.rule(
            jobs_per_day=100_000, group={"by": "metadata.pair", "needs": 2, "order": "metadata.number"}
        )
        storm = Storm(harness, nats_server, chance, soak_runs / FULL_RUNS)
        log = tmp_path / "log"
        with contextlib.ExitStack() as stack:
            dispatchers = [
                stack.enter_context(DispatcherProcess(nats_server.settings, s3_server.settings, log)) for _ in range(2)
            ]
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(storm.publish())
                tasks.create_task(storm.kill(dispatchers))
                tasks.create_task(storm.restart())
            wanted = {derived_id("job", upload_id, rule_id) for upload_id in storm.uploads for rule_id in each}

            async def all_there() -> bool:
                if died := [one for one in dispatchers if one.ended()]:
                    raise AssertionError(f"{len(died)} dispatchers ended by themselves: {log.read_text()[-3000:]}")
                return len(await _submitted(harness)) >= len(wanted) + len(storm.pairs)

            try:
                await harness.until(all_there, timeout_s=90)
            except AssertionError as error:
                raise AssertionError(await _what_is_missing(harness, wanted, storm, log)) from error
            await asyncio.sleep(1.0)  # for one too many
        jobs = await _submitted(harness)
        found = Counter(envelope.subject for envelope in jobs)
        assert set(found.values()) == {1}, seed
        assert found.keys() >= wanted, seed
        groups = [JobSubmitted.model_validate(one.data).rule for one in jobs if one.subject not in wanted]
        assert sorted(one.upload_ids for one in groups if one and one.rule_id == pair) == sorted(
            tuple(uploads) for uploads in storm.pairs.values()
        )
        assert len(groups) == len(storm.pairs)
        assert await harness.skips() == []
        letters = EventStore(harness.client, DEADLETTERS.name)
        dead = [stored.headers for stored in (await letters.batch(0, with_headers=True))[0]]
        assert Counter(one["Saccade-Subject"] for one in dead) == Counter(storm.unreadable), seed
        completed = {
            one.subject: one.time
            for one in await harness.events("saccade.evt.*.upload.*.completed")
            if one.subject in storm.uploads
        }
        latencies_s = _latencies_s(jobs, completed)
    quantiles = statistics.quantiles(latencies_s, n=100)
    print(
        f"{storm.count} uploads, {len(jobs)} jobs, {storm.kills} kills, {storm.restarts} restarts, {len(dead)} dead"
        f" letters; upload to job p50 {quantiles[49] * 1000:.0f} ms, p99 {quantiles[98] * 1000:.0f} ms,"
        f" longest {latencies_s[-1]:.1f} s; seed {seed}"
    )
