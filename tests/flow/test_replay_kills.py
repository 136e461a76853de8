"""Replays whose notifier is killed again and again: sandboxes exact, webhooks with at most one repeat for each kill."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from contracts.ids import new_id
from contracts.sandbox import copies_of
from contracts.streams import REPLAYS
from kit.bus.event_store import EventStore, StoredEvent
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import NotifierProcess, Publisher, failed, publisher, retrying
from tests.harness.webhooks.delivery import environment
from tests.harness.webhooks.listeners import WebhookListener, listening

pytestmark = pytest.mark.anyio

#: Kills in a long soak: `make soak`, with its 200 runs.
KILLS_PER_RUN = 0.1
EVENTS_PER_KILL = 80
RATE_PER_S = 40


async def published(jobs: Publisher, count: int) -> tuple[str, list[StoredEvent]]:
    job_id = new_id("job")
    for number in range(count):
        await jobs.say(job_id, failed() if number % 2 else retrying())
    events = [event async for event in jobs.store.history(0, f"saccade.evt.local.job.{job_id}.*")]
    return job_id, events


class Replays:
    """Client of whichever notifier answers."""

    def __init__(self, notifiers: list[NotifierProcess]) -> None:
        self.notifiers = notifiers

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        async with asyncio.timeout(60):
            while True:
                for notifier in self.notifiers:
                    try:
                        async with httpx.AsyncClient(base_url=notifier.url, timeout=5) as http:
                            answer = await http.request(method, path, json=body)
                    except httpx.TransportError:
                        continue
                    assert answer.status_code < 500, answer.text
                    assert answer.status_code < 400, answer.text
                    found: dict[str, Any] = answer.json()
                    return found
                await asyncio.sleep(0.1)

    async def start(self, into: str, job_id: str) -> str:
        wanted = {
            "into": into,
            "since": "3600",
            "speed": "max",
            "rate_per_s": RATE_PER_S,
            "subjects": [job_id],
            "why": "x",
        }
        planned = await self.ask("POST", "/v1/replays", wanted)
        path = f"/v1/replays/{planned['id']}"
        await self.ask("POST", f"{path}/start", {"expected_count": planned["plan"]["count"], "why": "x"})
        return str(planned["id"])

    async def until_completed(self, replay_id: str, timeout_s: float) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            while (found := await self.ask("GET", f"/v1/replays/{replay_id}"))["state"] != "completed":
                assert found["state"] == "running", found
                await asyncio.sleep(0.3)
        return found


@asynccontextmanager
async def two_notifiers(nats: EmbeddedNats) -> AsyncIterator[list[NotifierProcess]]:
    with (
        NotifierProcess(nats.settings, **environment()) as first,
        NotifierProcess(nats.settings, **environment()) as second,
    ):
        yield [first, second]


@pytest.mark.soak
@pytest.mark.timeout(1800)  # a soak is long; each wait in it has a limit of its own
async def test_a_replay_survives_kills(nats_server: EmbeddedNats, seed: int, soak_runs: int) -> None:
    chance = random.Random(seed)
    kills = max(2, round(soak_runs * KILLS_PER_RUN))

    async def shaky(_: WebhookListener, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(chance.choice((0, 0, 0.002, 0.02)))
        return web.Response(status=500 if chance.random() < 0.02 else 200)

    async with (
        publisher(nats_server.settings) as jobs,
        listening(respond=shaky) as receiver,
        two_notifiers(nats_server) as notifiers,
    ):
        job_id, events = await published(jobs, kills * EVENTS_PER_KILL)
        replays = Replays(notifiers)
        endpoint = await replays.ask("POST", "/v1/webhooks", {"url": receiver.url})
        into_sandbox = await replays.start("sandbox:kills", job_id)
        into_webhook = await replays.start(f"webhook:{endpoint['id']}", job_id)
        killed = 0
        for number in range(kills):
            before = len(receiver.got)
            async with asyncio.timeout(30):
                while len(receiver.got) < min(before + chance.randint(1, EVENTS_PER_KILL // 2), len(events)):
                    await asyncio.sleep(0.01)
            await asyncio.sleep(chance.random() * 0.05)
            # Both die in turns: one of them is at work.
            victim = notifiers[number % 2]
            await asyncio.to_thread(victim.stop, signal.SIGKILL)
            killed += 1
            other = notifiers[1 - number % 2]
            if chance.random() < 0.3:
                await asyncio.to_thread(other.stop, signal.SIGKILL)
                killed += 1
                await asyncio.to_thread(other.start)
            await asyncio.to_thread(victim.start)
        await replays.until_completed(into_sandbox, 120 + 10 * kills)
        done = await replays.until_completed(into_webhook, 120 + 10 * kills)

        stored: list[StoredEvent] = []
        async for copy in EventStore(jobs.client, REPLAYS.name).history(0, copies_of("kills", into_sandbox)):
            stored.append(copy)  # noqa: PERF401 - mypy knows no asynchronous extension
        assert [copy.body for copy in stored] == [event.body for event in events], "exact, in order, each once"

        got = [request for request in receiver.got if request.headers.get("saccade-replay") == into_webhook]
        times = Counter(int(request.headers["saccade-replay-of"].partition(".")[2]) for request in got)
        assert set(times) == {event.sequence for event in events}, "none is missing"
        repeated = {sequence: count for sequence, count in times.items() if count > 1}
        assert sum(count - 1 for count in repeated.values()) <= killed, f"at most one for each kill: {repeated}"
        ids: dict[int, set[str]] = {}
        for request in got:
            ids.setdefault(int(request.headers["saccade-replay-of"].partition(".")[2]), set()).add(request.id)
        assert all(len(known) == 1 for known in ids.values()), "a repeat has the same id"
        order = list(dict.fromkeys(int(request.headers["saccade-replay-of"].partition(".")[2]) for request in got))
        assert order == sorted(order)
        progress = done["progress"]
        print(f"{killed} kills, {len(events)} events, {sum(count - 1 for count in repeated.values())} repeats")
        assert progress["sent"] + progress["failed"] == len(events)
