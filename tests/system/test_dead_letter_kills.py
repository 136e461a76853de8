"""A plan over dead letters of three kinds, while gateway and dispatcher are killed: each is handled once, all recorded.

``make soak`` makes 20 kills, ``make test`` a fixed small share.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from contracts.audit import ChainVerifier
from contracts.events.base import decode
from contracts.events.job import JobRetrying
from contracts.streams import OPS
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import stream_info
from kit.tasks import end
from tests.harness.dead_letters import LetterMaker
from tests.harness.rules.dispatcher_process import DispatcherProcess
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, S3Server, free_port
from tests.harness.servers.gateway_process import environment, process

pytestmark = pytest.mark.anyio
FULL_RUNS, FULL_KILLS = 200, 20
_LETTERS_PER_KILL = 15


class GatewayProcess:
    """A gateway that is killed and started again, at one address."""

    def __init__(self, nats: EmbeddedNats, s3: S3Server, folder: Path) -> None:
        self.port = free_port()
        self._environment = environment((nats.settings, s3.settings), folder, self.port)
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        self._stack.enter_context(process(self._environment))

    def kill(self) -> None:
        self._stack.close()


async def answered(http: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    """Send a request until the gateway answers it."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.request(method, path, **options)
                if answer.status_code != 503:
                    return answer
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def killing(
    client: Client, chance: random.Random, at: list[int], *victims: GatewayProcess | DispatcherProcess
) -> AsyncIterator[asyncio.Task[None]]:
    """Kill one of the victims whenever the audit log has got so many records."""

    async def kill() -> None:
        for records in at:
            while (await stream_info(client, OPS.name))["state"]["last_seq"] < records:
                await asyncio.sleep(chance.uniform(0.0, 0.02))
            victim = chance.choice(victims)
            await asyncio.to_thread(victim.kill)
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            victim.start()

    task = asyncio.create_task(kill())
    try:
        yield task
    finally:
        await end(task)


@pytest.mark.soak
@pytest.mark.timeout(900)  # a soak is long; each wait in it has a limit of its own
async def test_a_plan_over_kills_handles_each_letter_once_and_the_chain_is_whole(
    tmp_path: Path, shared_s3: EmbeddedS3, seed: int, soak_runs: int
) -> None:
    chance, kills = random.Random(seed), max(2, soak_runs * FULL_KILLS // FULL_RUNS)
    s3 = shared_s3.with_new_bucket()
    (tmp_path / "nats").mkdir()
    with EmbeddedNats(tmp_path / "nats") as nats, contextlib.ExitStack() as stack:
        client = await connect(nats.settings, "test")
        await declare(client)
        gateway = GatewayProcess(nats, s3, tmp_path)
        stack.callback(gateway.kill)
        gateway.start()
        dispatcher = stack.enter_context(DispatcherProcess(nats.settings, s3.settings, tmp_path / "dispatcher.log"))
        make = LetterMaker(client, "local")
        count = _LETTERS_PER_KILL * kills
        jobs = [await make.job() for _ in range(count)]
        letters = [
            await make.event("dispatcher", subject=stored.subject, body=stored.body)
            for job_id in jobs
            for stored in await EventStore(client).load(f"saccade.evt.local.job.{job_id}.submitted")
        ]
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{gateway.port}", timeout=30) as http:
            body = {"action": "redrive", "why": "the cause is corrected", "expected_count": 2 * count}
            answer = await answered(http, "POST", "/v1/dead-letter-plans", json=body)
            assert answer.status_code == 202, answer.text
            plan = answer.json()
            at = sorted(chance.sample(range(1, 3 * count), kills))  # of 4 * count records and more
            async with killing(client, chance, at, gateway, dispatcher) as task, asyncio.timeout(60 + 20 * kills):
                while plan["state"] == "running" or not task.done():
                    await asyncio.sleep(0.2)
                    plan = (await answered(http, "GET", f"/v1/dead-letter-plans/{plan['id']}")).json()
        assert (plan["done"], plan["failed"], plan["skipped"]) == (2 * count, 0, 0), (seed, plan)

        verifier = ChainVerifier()
        history = EventStore(client, OPS.name).history(0)
        records = [verifier.add(stored.sequence, stored.subject, stored.body) async for stored in history]
        assert verifier.faults == [], seed
        assert {(record.data.by, record.data.why) for record in records if record} == {
            ("local", "the cause is corrected")
        }
        redriven = Counter(
            record.subject_id
            for record in records
            if record and record.verb == "redriven" and "dlp_" not in record.subject_id
        )
        # A job whose gateway died between the order and its record has the order alone: it is in EVENTS, once.
        assert {letter: redriven[str(letter)] for letter in letters} == dict.fromkeys(letters, 1), seed
        assert set(redriven) <= {*jobs, *map(str, letters)}
        intents = {record.subject_id for record in records if record and record.verb == "redrive_requested"}
        assert intents >= {*jobs, *map(str, letters)}
        asked: Counter[str] = Counter()
        async for stored in EventStore(client).history(0, "saccade.evt.local.job.*.retrying"):
            data = decode(stored.body).parsed()
            if isinstance(data, JobRetrying) and data.after == "asked":
                asked[stored.subject.split(".")[4]] += 1
        assert asked == dict.fromkeys(jobs, 1), seed
        await client.close()
