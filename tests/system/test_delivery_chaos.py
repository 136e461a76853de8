"""Kill -9 of services and bus, and a proxy that breaks streams: every subscriber still gets each event once.

Webhooks of the same events come at least once, with the stored bytes and a signature that the published library takes.
``make test`` runs a few rounds, ``make soak`` many; ``--seed`` runs the rounds of a failure again.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from contracts.events import decode
from kit.bus.event_store import StoredEvent
from tests.harness.network.breaking_proxy import BreakingProxy, draw_faults
from tests.harness.streams.resuming_subscriber import ResumingSubscriber
from tests.harness.webhooks.listeners import WebhookListener, listening
from tests.system.chaos import ENDS, SCRIPT, WAIT_S, Killer, System, running

VICTIMS = ("services.notifier", "nats-server", "services.gateway", "services.dispatcher")
FAULTS = 4
#: A first attempt that fails is made again 5 s later; the last of them are waited for at the end.
LATE_S = 60.0
#: Webhooks are checked after so many rounds: the published library refuses what is older than five minutes.
SETTLE_ROUNDS = 12


@dataclass
class Receiver:
    """A webhook receiver that refuses, hangs up on and lets wait some first attempts."""

    dice: random.Random

    async def respond(self, _: WebhookListener, request: web.Request) -> web.StreamResponse:
        if request.headers.get("saccade-attempt") == "1":
            match self.dice.randrange(12):
                case 0:
                    return web.Response(status=500)
                case 1:
                    assert request.transport
                    request.transport.abort()
                case 2:
                    await asyncio.sleep(0.5)
        return web.Response(text="noted")


@dataclass
class Round:
    """What one job left: its stored events, and who was to get them."""

    context: str
    job_id: str
    history: list[StoredEvent]
    #: The proxy has cut, stalled or truncated one of its streams; a fault that is drawn late may come to nothing.
    broken: bool


def check(subscriber: ResumingSubscriber, history: list[StoredEvent], context: str) -> None:
    expected = [decode(stored.body).id for stored in history]
    how = "header" if subscriber.by_header else "query"
    assert subscriber.ids == expected, f"{context}: by {how}: {subscriber.ids} of {expected}"
    assert subscriber.sequences == [stored.sequence for stored in history], context
    # Whatever else an EventSource gets, it gives up for ever.
    assert subscriber.statuses <= {200, 204}, f"{context}: by {how}: {subscriber.statuses}"


async def submit(http: aiohttp.ClientSession, webhook_url: str) -> str:
    """Submit a job, once, however often that takes while the gateway is away."""
    body = {"workload": "scripted", "params": {"script": SCRIPT}, "webhook_url": webhook_url}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    async with asyncio.timeout(WAIT_S):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.post("/v1/jobs", json=body, headers=headers) as answer:
                    if answer.status == 202:
                        return str((await answer.json())["id"])
                    assert answer.status >= 500, await answer.text()
            await asyncio.sleep(0.1)


async def run_round(system: System, http: aiohttp.ClientSession, dice: random.Random, called: str, url: str) -> Round:
    number = int(called.rpartition(" ")[2])
    victim, delay_s = VICTIMS[number % len(VICTIMS)], dice.uniform(0.0, 1.2)
    context = f"{called}, {victim} killed after {delay_s:.3f} s"
    async with AsyncExitStack() as stack:
        proxies = [
            BreakingProxy(lambda _: system.port, draw_faults(dice, FAULTS), strips=strips, stall_s=0.3, seed=number)
            for strips in ((), ("Last-Event-ID",))
        ]
        for proxy in proxies:
            await stack.enter_async_context(proxy)
        killer = Killer(system, victim, delay_s)
        killing = killer.start()
        job_id = await submit(http, url)
        subscribers = [
            ResumingSubscriber(f"{proxy.url}/v1/jobs/{job_id}/events", by_header)
            for proxy, by_header in zip(proxies, (True, False), strict=True)
        ]
        try:
            async with asyncio.timeout(WAIT_S):
                await asyncio.gather(*(subscriber.follow() for subscriber in subscribers))
        except TimeoutError:
            seen = [subscriber.ids for subscriber in subscribers]
            pytest.fail(f"{context}: the streams did not end: {seen}, {[one.broken for one in proxies]}")
        await asyncio.to_thread(killing.join, WAIT_S)
        assert not killing.is_alive(), f"{context}: the killer did not end"
        assert killer.killed, f"{context}: nothing was killed"
        history = await system.history(job_id)
        assert decode(history[-1].body).type in ENDS, context
        for subscriber in subscribers:
            check(subscriber, history, context)
        return Round(context, job_id, history, broken=any(proxy.broken for proxy in proxies))


def missing(rounds: list[Round], listener: WebhookListener) -> list[str]:
    """List the events that a receiver does not have."""
    got = set(listener.ids())
    return [
        f"{one.context}: {envelope.type} {envelope.id}"
        for one in rounds
        for envelope in (decode(stored.body) for stored in one.history)
        if envelope.id not in got
    ]


def check_webhooks(rounds: list[Round], listener: WebhookListener, secret: str, seed: int) -> None:
    """Hold each request against the stored bytes and the published library."""
    stored = {decode(event.body).id: event for one in rounds for event in one.history}
    verifier = Webhook(secret)
    for got in listener.got:
        if got.id not in stored:
            assert got.type == "job.progressed", f"--seed {seed}: {got.body!r}"
            continue
        assert got.body == stored[got.id].body, f"--seed {seed}: {got.id} was changed on its way"
        assert got.sequence == stored[got.id].sequence, f"--seed {seed}: {got.id}"
        # The library refuses what is older than five minutes; the time is the request's own.
        verifier.verify(got.body, got.headers)


@asynccontextmanager
async def receivers(dice: random.Random) -> AsyncIterator[tuple[WebhookListener, WebhookListener]]:
    async with (
        listening(respond=Receiver(random.Random(dice.random())).respond) as endpoint,
        listening(respond=Receiver(random.Random(dice.random())).respond) as own,
    ):
        yield endpoint, own


@pytest.fixture
def system(tmp_path: Path):
    with running(tmp_path) as system:
        yield system


@pytest.mark.soak
@pytest.mark.anyio
async def test_every_subscriber_has_each_event_whatever_dies(system: System, seed: int, soak_runs: int) -> None:
    dice = random.Random(seed)
    async with receivers(dice) as (endpoint, own), aiohttp.ClientSession(system.url) as http:
        made = await (await http.post("/v1/webhooks", json={"url": endpoint.url, "types": ["job.*"]})).json()
        default = await (await http.get("/v1/webhooks/default/secret")).json()
        pairs = ((endpoint, made["secret"]), (own, default["secret"]))
        rounds: list[Round] = []
        for number in range(soak_runs):
            rounds.append(await run_round(system, http, dice, f"--seed {seed}: run {number}", own.url))
            if number % SETTLE_ROUNDS == SETTLE_ROUNDS - 1 or number == soak_runs - 1:
                await settle(rounds, pairs, seed)
        assert sum(one.broken for one in rounds) >= len(rounds) * 3 // 4, f"--seed {seed}: the proxy breaks too little"


async def settle(rounds: list[Round], pairs: tuple[tuple[WebhookListener, str], ...], seed: int) -> None:
    """Wait until every receiver has every event, then check all that came."""
    recent = rounds[-SETTLE_ROUNDS:]
    try:
        async with asyncio.timeout(LATE_S):
            while any(missing(recent, listener) for listener, _ in pairs):
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail("\n".join(line for listener, _ in pairs for line in missing(recent, listener)))
    for listener, secret in pairs:
        check_webhooks(rounds, listener, secret, seed)
        listener.got.clear()
