"""Replays into a webhook endpoint: the same bytes and ids with marks, once each, beside and below live deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

from contracts.streams import DELIVERIES
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Publisher, Reader, failed, notifier, publisher, succeeded
from tests.harness.webhooks.callers import webhook_settings
from tests.harness.webhooks.listeners import ReceivedRequest, WebhookListener, listening

pytestmark = pytest.mark.anyio


@dataclass
class Running:
    """A notifier, who publishes, and a receiver."""

    reader: Reader
    jobs: Publisher
    receiver: WebhookListener

    async def endpoint(self, **options: Any) -> dict[str, Any]:
        answer = await self.reader.http.post("/v1/webhooks", json={"url": self.receiver.url} | options)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def plan(self, endpoint: dict[str, Any], code: int = 201, **wanted: Any) -> dict[str, Any]:
        body = {"into": f"webhook:{endpoint['id']}", "since": "3600", "speed": "max"} | wanted
        answer = await self.reader.http.post("/v1/replays", json=body)
        assert answer.status_code == code, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def act(self, replay: dict[str, Any], verb: str, **body: Any) -> dict[str, Any]:
        answer = await self.reader.http.post(f"/v1/replays/{replay['id']}/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    async def start(self, endpoint: dict[str, Any], **wanted: Any) -> dict[str, Any]:
        replay = await self.plan(endpoint, **wanted)
        return await self.act(replay, "start", expected_count=replay["plan"]["count"])

    async def until(self, replay: dict[str, Any], *states: str, timeout_s: float = 20) -> dict[str, Any]:
        async with asyncio.timeout(timeout_s):
            while (now := await self.get(f"/v1/replays/{replay['id']}"))["state"] not in states:
                await asyncio.sleep(0.02)
        return now

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self.reader.http.get(path)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def events(self, count: int) -> str:
        """Publish so many events of one job."""
        job_id = await self.jobs.submit()
        for number in range(count - 1):
            await self.jobs.say(job_id, succeeded() if number % 2 else failed())
        return job_id

    async def delivered(self, endpoint: dict[str, Any], count: int) -> list[dict[str, Any]]:
        """Wait until so many live deliveries are recorded."""
        async with asyncio.timeout(15):
            while True:
                found = (await self.get(f"/v1/webhooks/{endpoint['id']}/deliveries"))["data"]
                if [one["state"] for one in found] == ["delivered"] * count:
                    return list(found)
                await asyncio.sleep(0.02)

    def replayed(self) -> list[ReceivedRequest]:
        return [got for got in self.receiver.got if "saccade-replay" in got.headers]

    def live(self) -> list[ReceivedRequest]:
        return [got for got in self.receiver.got if "saccade-replay" not in got.headers]


@asynccontextmanager
async def running(server: NatsServer) -> AsyncIterator[Running]:
    async with (
        publisher(server.settings) as jobs,
        listening() as receiver,
        notifier(server.settings, webhooks=webhook_settings()) as reader,
    ):
        yield Running(reader, jobs, receiver)


@pytest.fixture
async def here(nats_server: NatsServer) -> AsyncIterator[Running]:
    async with running(nats_server) as found:
        yield found


def _sequence(cursor: str) -> int:
    return int(cursor.partition(".")[2])


async def test_an_event_comes_as_it_came_first_with_marks(here: Running) -> None:
    endpoint = await here.endpoint(headers={"X-Own": "yes"})
    job_id = await here.events(4)
    first = list(await here.receiver.wait(4))
    replay = await here.start(endpoint, subjects=[job_id])
    ended = await here.until(replay, "completed")
    again = here.replayed()
    assert ended["progress"]["sent"] == 4
    cursors = [got.headers["saccade-replay-of"] for got in again]
    assert cursors == sorted((got.headers["saccade-cursor"] for got in first), key=_sequence), "the stream's order"
    for got in again:
        before = next(one for one in first if one.id == got.id)
        assert got.body == before.body
        assert got.headers["saccade-replay"] == replay["id"]
        assert got.headers["saccade-replay-of"] == before.headers["saccade-cursor"]
        assert "saccade-cursor" not in got.headers, "it is the position of live deliveries"
        assert "saccade-attempt" not in got.headers
        assert got.headers["x-own"] == "yes"
        Webhook(endpoint["secret"]).verify(got.body, got.headers)
    # Bodies are equal, so both have the same form of content.
    assert {got.headers["content-type"] for got in again} == {"application/json"}


async def test_as_new_has_an_id_of_its_own_for_receivers_that_know_the_first(here: Running) -> None:
    endpoint = await here.endpoint()
    job_id = await here.events(2)
    first = list(await here.receiver.wait(2))
    replay = await here.start(endpoint, subjects=[job_id], as_new=True)
    await here.until(replay, "completed")
    assert {got.id for got in here.replayed()} == {f"{got.id}:{replay['id']}" for got in first}
    assert {got.body for got in here.replayed()} == {got.body for got in first}
    for got in here.replayed():
        Webhook(endpoint["secret"]).verify(got.body, got.headers)


async def test_it_is_signed_with_the_secret_of_today_and_reaches_events_from_before_the_endpoint(here: Running) -> None:
    job_id = await here.events(3)
    endpoint = await here.endpoint()
    rotated = await here.reader.http.post(f"/v1/webhooks/{endpoint['id']}/rotate-secret", json={"overlap_s": 0})
    assert rotated.status_code == 200, rotated.text
    secret = rotated.json()["secret"]
    assert secret != endpoint["secret"]
    replay = await here.start(endpoint, subjects=[job_id])
    await here.until(replay, "completed")
    assert len(here.replayed()) == 3
    for got in here.replayed():
        Webhook(secret).verify(got.body, got.headers)


async def test_it_honours_the_types_of_the_endpoint_and_the_plan_counts_them(here: Running) -> None:
    endpoint = await here.endpoint(types=["job.failed"])
    job_id = await here.events(7)
    await here.receiver.wait(3)
    replay = await here.plan(endpoint, subjects=[job_id])
    assert (replay["plan"]["count"], replay["plan"]["takes"]) == (7, 3)
    await here.act(replay, "start", expected_count=7)
    ended = await here.until(replay, "completed")
    progress = ended["progress"]
    assert (progress["sent"], progress["skipped"], progress["failed"]) == (3, 4, 0)
    assert [got.type for got in here.replayed()] == ["job.failed"] * 3


async def test_it_has_no_effect_on_the_endpoint(here: Running) -> None:
    """No retry, no failure run that would disable it, no place in its list; but each attempt is recorded."""
    endpoint = await here.endpoint()
    path = f"/v1/webhooks/{endpoint['id']}"
    job_id = await here.events(3)
    before = await here.delivered(endpoint, 3)
    here.receiver.status = 410  # a live delivery would disable the endpoint at once
    replay = await here.start(endpoint, subjects=[job_id])
    ended = await here.until(replay, "completed")
    assert ended["progress"]["failed"] == 3
    assert len(here.replayed()) == 3, "one attempt each"
    assert (await here.get(path))["enabled"]
    after = (await here.get(f"{path}/deliveries"))["data"]
    assert [(one["id"], one["state"], one["attempts"]) for one in after] == [
        (one["id"], one["state"], one["attempts"]) for one in before
    ]
    recorded = await here.get(f"{path}/deliveries?replay={replay['id']}&limit=2")
    assert [(one["state"], one["last_status"], one["replay"]) for one in recorded["data"]] == [
        ("failed", 410, replay["id"])
    ] * 2
    rest = await here.get(f"{path}/deliveries?replay={replay['id']}&limit=2&cursor={recorded['next_cursor']}")
    assert len(rest["data"]) == 1
    assert rest["next_cursor"] is None
    assert [one["id"] for one in recorded["data"] + rest["data"]] == [one["id"] for one in reversed(before)]
    assert (await here.get(f"{path}/deliveries?replay={replay['id']}&state=delivered"))["data"] == []
    here.receiver.status = 200
    await here.jobs.say(job_id, succeeded())
    async with asyncio.timeout(10):
        while len(here.live()) < 4:
            await asyncio.sleep(0.02)


async def test_it_pauses_itself_when_too_many_fail_and_goes_on_when_resumed(here: Running) -> None:
    job_id = await here.events(60)
    endpoint = await here.endpoint()
    here.receiver.status = 500
    replay = await here.start(endpoint, subjects=[job_id])
    paused = await here.until(replay, "paused")
    assert len(here.replayed()) == 11, "more than a fifth of fifty"
    assert paused["progress"]["failed"] == 11
    here.receiver.status = 200
    await here.act(replay, "resume")
    ended = await here.until(replay, "completed")
    assert (ended["progress"]["sent"], ended["progress"]["failed"]) == (49, 11)
    assert len({got.id for got in here.replayed()}) == len(here.replayed()) == 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "slack"}, "replay_target_refused"),
        ({"format": "poke", "headers": {"Authorization": "x"}}, "replay_target_refused"),
    ],
)
async def test_messages_are_not_replayed(here: Running, options: dict[str, Any], said: str) -> None:
    endpoint = await here.endpoint(**options)
    await here.events(1)
    assert (await here.plan(endpoint, 409))["code"] == said


async def test_an_endpoint_that_gets_nothing_gets_no_replay(here: Running) -> None:
    endpoint = await here.endpoint()
    await here.reader.http.patch(f"/v1/webhooks/{endpoint['id']}", json={"enabled": False})
    assert (await here.plan(endpoint, 409))["code"] == "webhook_disabled"
    await here.reader.http.delete(f"/v1/webhooks/{endpoint['id']}")
    assert (await here.plan(endpoint, 404))["code"] == "webhook_not_found"


async def test_live_deliveries_are_first(here: Running) -> None:
    """While live deliveries are under way, no replayed event is sent."""
    job_id = await here.events(40)
    endpoint = await here.endpoint()
    release = asyncio.Event()

    async def hold_live(_: WebhookListener, request: web.Request) -> web.StreamResponse:
        if "saccade-replay" not in {name.lower() for name in request.headers}:
            await release.wait()
        return web.Response()

    here.receiver.respond = hold_live
    other = await here.events(1)
    async with asyncio.timeout(10):
        while not here.live():
            await asyncio.sleep(0.01)
    replay = await here.start(endpoint, subjects=[job_id])
    await asyncio.sleep(0.5)
    assert here.replayed() == []
    release.set()
    await here.until(replay, "completed")
    assert len(here.replayed()) == 40
    assert other in {got.event["subject"] for got in here.live()}


async def test_rate_and_quiet_hours_of_the_endpoint_hold(here: Running) -> None:
    job_id = await here.events(12)
    endpoint = await here.endpoint(rate_per_s=4)
    replay = await here.start(endpoint, subjects=[job_id])
    ended = await here.until(replay, "completed")
    assert ended["progress"]["sent"] == 12
    times = [got.at for got in here.replayed()]
    assert times[-1] - times[0] >= 11 / 4 - 0.9, "four a second, after one second's worth"
    quiet = await here.endpoint(quiet_hours={"start": "00:00", "end": "23:59"})
    count = len(here.replayed())
    waiting = await here.start(quiet, subjects=[job_id])
    await asyncio.sleep(0.7)
    assert len(here.replayed()) == count
    await here.act(waiting, "cancel")


async def test_nothing_replayed_becomes_an_event(here: Running) -> None:
    endpoint = await here.endpoint()
    job_id = await here.events(5)
    await here.delivered(endpoint, 5)
    client = here.jobs.client

    async def last(stream: str) -> int:
        return int((await request(client, f"STREAM.INFO.{stream}", {}))["state"]["last_seq"])

    events, records = await last("EVENTS"), await last(DELIVERIES.name)
    heard: list[str] = []

    async def on_live(message: Any) -> None:
        heard.append(message.subject)

    await client.subscribe("live.saccade.evt.>", cb=on_live)
    await client.flush()
    replay = await here.start(endpoint, subjects=[job_id])
    await here.until(replay, "completed")
    assert await last("EVENTS") == events
    assert heard == []
    assert await last(DELIVERIES.name) == records + 5
    stored = [one async for one in EventStore(client, DELIVERIES.name).history(records)]
    assert {one.subject for one in stored} == {f"saccade.dlv.local.replay.{replay['id']}.delivery_attempted"}


async def test_a_pause_repeats_nothing_that_was_under_way(here: Running) -> None:
    job_id = await here.events(6)
    endpoint = await here.endpoint()
    release = asyncio.Event()

    async def hold(listener: WebhookListener, _: web.Request) -> web.StreamResponse:
        if len(listener.got) == 3:
            await release.wait()
        return web.Response()

    here.receiver.respond = hold
    replay = await here.start(endpoint, subjects=[job_id])
    await here.receiver.wait(3)
    await here.act(replay, "pause")
    await asyncio.sleep(1.2)  # longer than a pause takes at most
    await here.act(replay, "resume")
    await asyncio.sleep(0.3)
    assert len(here.replayed()) == 3, "it goes on after what is under way"
    release.set()
    ended = await here.until(replay, "completed")
    assert ended["progress"]["sent"] == 6
    assert len({got.id for got in here.replayed()}) == len(here.replayed()) == 6


async def test_a_replay_whose_records_were_deleted_while_it_was_paused_fails(here: Running) -> None:
    job_id = await here.events(30)
    endpoint = await here.endpoint(rate_per_s=10)
    replay = await here.start(endpoint, subjects=[job_id])
    await here.receiver.wait(2)
    await here.act(replay, "pause")
    await asyncio.sleep(1.2)  # longer than a pause takes at most
    sent = len(here.replayed())
    await request(here.jobs.client, f"STREAM.PURGE.{DELIVERIES.name}", {"filter": f"*.*.*.*.{replay['id']}.*"})
    await here.act(replay, "resume")
    ended = await here.until(replay, "failed")
    assert ended["error"]["code"] == "replay_target_refused"
    assert len(here.replayed()) == sent


async def test_a_replay_into_an_endpoint_that_is_disabled_meanwhile_fails(here: Running) -> None:
    job_id = await here.events(30)
    endpoint = await here.endpoint(rate_per_s=10)
    replay = await here.start(endpoint, subjects=[job_id])
    await here.receiver.wait(2)
    await here.reader.http.patch(f"/v1/webhooks/{endpoint['id']}", json={"enabled": False})
    ended = await here.until(replay, "failed")
    assert ended["error"]["code"] == "webhook_disabled"
    assert len(here.replayed()) < 30
