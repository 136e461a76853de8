"""Endpoints that get messages instead of events: same ledger, retries and order, other bodies, quiet hours."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from contracts.events.session import SessionAlert
from contracts.ids import new_id
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import failed, progressed, publisher, succeeded
from tests.harness.webhooks.delivery import check, run_webhooks
from tests.harness.webhooks.listeners import listening

pytestmark = pytest.mark.anyio


def alert(number: int) -> SessionAlert:
    return SessionAlert(
        run_id="run_1",
        alert=number,
        rule="dropped",
        condition="the gripper drops the cube",
        chunk=number,
        confidence=0.9,
        text="The cube falls.",
    )


async def test_poke_gets_alerts_and_ended_jobs_signed_and_with_its_key(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as poke:
        endpoint = await here.make(
            poke.url,
            format="poke",
            types=("session.alert", "job.succeeded", "job.failed"),
            headers={"Authorization": "Bearer pk_secret"},
        )
        job, session = await bus.submit(), new_id("ses")
        await bus.start(job)
        await bus.say(job, failed())
        await bus.say(session, alert(1))
        await poke.wait(2)
        await here.settled(endpoint.id, 2)
        messages = {json.loads(got.body)["message"].removeprefix(PREFIX) for got in poke.got}
        assert messages == {
            f"Lap comparison failed: m h ({job})",
            next(message for message in messages if message.startswith("Alert dropped: the gripper drops the cube.")),
        }
        for got in poke.got:
            check(got, endpoint.secrets[0])
            assert got.headers["authorization"] == "Bearer pk_secret"


PREFIX = "Notification from Saccade. It is for information and asks for no action. "


async def test_a_message_is_retried_with_the_same_words(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(status=502) as poke:
        endpoint = await here.make(poke.url, format="text", types=("job.succeeded",))
        job = await bus.submit()
        await bus.start(job)
        await bus.say(job, succeeded())
        await poke.wait(1)
        await here.until(
            lambda: len(here.view.attempts(endpoint.id, here.view.list(endpoint.id, limit=1)[0][0].sequence)) == 1
        )
        poke.status = 200
        here.pass_(minutes=3)
        await here.settled(endpoint.id, 1)
        assert len({got.body for got in poke.got}) == 1
        assert len({got.id for got in poke.got}) == 1
        assert poke.got[0].headers["content-type"] == "text/plain; charset=utf-8"


async def test_what_happens_in_quiet_hours_is_sent_when_they_are_over(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    now = datetime.now(UTC)
    quiet = QuietHours(start=f"{now - timedelta(hours=1):%H:%M}", end=f"{now + timedelta(hours=2):%H:%M}")
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as night, listening() as day:
        sleeper = await here.make(night.url, format="slack", types=("session.alert",), quiet_hours=quiet)
        awake = await here.make(day.url, format="slack", types=("session.alert",))
        session = new_id("ses")
        for number in (1, 2):
            await bus.say(session, alert(number))
        await here.settled(awake.id, 2)
        await asyncio.sleep(0.1)
        assert night.got == []
        assert here.states(sleeper.id) == ["pending", "pending"]
        here.pass_(hours=1)
        await asyncio.sleep(0.1)
        assert night.got == []
        here.pass_(hours=1, minutes=1)
        await here.settled(sleeper.id, 2)
        assert sorted(got.body for got in night.got) == sorted(got.body for got in day.got)


async def test_progress_keeps_to_quiet_hours_and_rate(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    now = datetime.now(UTC)
    quiet = QuietHours(start=f"{now - timedelta(hours=1):%H:%M}", end=f"{now + timedelta(hours=1):%H:%M}")
    types = ("job.progressed",)
    async with (
        publisher(settings) as bus,
        run_webhooks(settings) as here,
        listening() as night,
        listening() as slow,
        listening() as day,
    ):
        await here.make(night.url, format="text", types=types, quiet_hours=quiet)
        await here.make(slow.url, format="text", types=types, rate_per_s=0.01)
        await here.make(day.url, format="text", types=types)
        await here.until(lambda: here.webhooks.engine.active)
        job = await bus.submit()
        for step in range(1, 5):
            await bus.say(job, progressed(step / 10))
            await day.wait(step)
        assert (len(night.got), len(slow.got)) == (0, 1)
        here.pass_(hours=2)
        await bus.say(job, progressed(0.9))
        await night.wait(1)
        await slow.wait(2)
