"""Replays by HTTP: plan, start with the expected count, pause, resume, cancel, progress, list, rights, records."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from contracts.audit import ChainVerifier
from contracts.ids import new_id
from contracts.replay import ReplaySelection
from contracts.streams import OPS
from kit.bus.event_store import EventStore
from kit.tasks import end
from services.notifier.replays import replay_service
from tests.harness.replays.history import KnownHistory, publish_history
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Block, Publisher, Reader, Stream, notifier, publisher

pytestmark = pytest.mark.anyio

TOO_MANY_TYPES = [f"job.{letter}" for letter in "abcdefghijk"]
#: The same in every process: it is in the name of a test, which pytest-xdist compares.
WEBHOOK = "whk_0198c0de-0000-7000-8000-000000000001"
JOB = new_id("job")
TOO_MANY_IDS = [new_id("job") for _ in range(10)]


@pytest.fixture
async def jobs(nats_server: NatsServer) -> AsyncIterator[Publisher]:
    async with publisher(nats_server.settings) as found:
        yield found


@pytest.fixture
async def reader(nats_server: NatsServer, jobs: Publisher) -> AsyncIterator[Reader]:
    async with notifier(nats_server.settings) as found:
        yield found


async def plan(reader: Reader, **wanted: Any) -> dict[str, Any]:
    answer = await reader.http.post("/v1/replays", json={"into": "sse", "since": "3600", "speed": "max"} | wanted)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/replays/{made['id']}"
    return made


async def act(reader: Reader, replay: dict[str, Any], verb: str, **body: Any) -> dict[str, Any]:
    answer = await reader.http.post(f"/v1/replays/{replay['id']}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def start(reader: Reader, replay: dict[str, Any]) -> dict[str, Any]:
    return await act(reader, replay, "start", expected_count=replay["plan"]["count"])


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def collect(stream: Stream, got: list[tuple[float, Block]]) -> None:
    """Note each block with the time at which it arrives."""
    async for block in stream:
        got += [(time.monotonic(), block)]


async def test_a_plan_counts_exactly_and_does_not_chase_its_end(jobs: Publisher, reader: Reader) -> None:
    known: KnownHistory = await publish_history(jobs.store, 300, tenants=("local", "other"))
    selection = ReplaySelection(tenants=("local",), types=("job.failed", "job.submitted"))
    replay = await plan(reader, types=list(selection.types))
    await publish_history(jobs.store, 20)
    expected = known.selected(selection, 0, known.events[-1].sequence)
    assert replay["state"] == "planned"
    assert replay["plan"]["count"] == replay["plan"]["takes"] == len(expected)
    by_type = {name: sum(event.subject.endswith(name[4:]) for event in expected) for name in selection.types}
    assert replay["plan"]["by_type"] == by_type
    for shown, wanted in ((replay["plan"]["first"], expected[:5]), (replay["plan"]["last"], expected[-5:])):
        assert [int(event["cursor"].partition(".")[2]) for event in shown] == [event.sequence for event in wanted]
        assert [event["id"] for event in shown] == [json.loads(event.body)["id"] for event in wanted]
    await start(reader, replay)
    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
        blocks = await stream.rest()
    assert [block.event for block in (blocks[0], blocks[-1])] == ["replay.opened", "replay.closed"]
    assert [block.data.encode() for block in blocks[1:-1]] == [event.body for event in expected]
    assert [block.id for block in blocks[1:-1]] == [f"{replay['id']}.{event.sequence}" for event in expected]
    ended = (await reader.http.get(f"/v1/replays/{replay['id']}")).json()
    assert ended["state"] == "completed"
    assert (ended["progress"]["sent"], ended["progress"]["remaining"]) == (len(expected), 0)
    assert len([event async for event in jobs.store.history(0, "saccade.evt.>")]) == len(known.events) + 20


async def test_a_stream_is_resumed_exactly_by_its_own_ids_only(jobs: Publisher, reader: Reader) -> None:
    known = await publish_history(jobs.store, 40)
    replay = await plan(reader)
    await start(reader, replay)
    path = f"/v1/replays/{replay['id']}/stream"
    async with reader.open(path) as stream:
        begun = (await stream.take(18))[1:]
    async with reader.open(path, begun[-1].id) as stream:
        opened, *rest = await stream.rest()
    assert opened.json["resumed_after"] == begun[-1].sequence
    assert [block.data.encode() for block in [*begun, *rest[:-1]]] == [event.body for event in known.events]
    assert (await reader.http.get(path, headers={"Last-Event-ID": str(rest[-1].id)})).status_code == 204
    async with reader.open(path, rest[-2].id) as stream:
        assert [block.event for block in await stream.rest()] == ["replay.opened", "replay.closed"]
    # Its ids are no cursors of live events, and a cursor is no id of it.
    async with reader.open("/v1/events", begun[0].id) as live:
        (gap,) = await live.take(1)
    assert gap.event == "gap"
    for other in ("e.1", f"{new_id('rpl')}.1", "1"):
        assert code(await reader.http.get(path, headers={"Last-Event-ID": other})) == (422, "invalid_parameter")


async def test_plans_that_nobody_starts_are_few(
    jobs: Publisher, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_service, "PLANNED_PER_TENANT", 3)
    await publish_history(jobs.store, 5)
    plans = [await plan(reader) for _ in range(3)]
    refused = await reader.http.post("/v1/replays", json={"into": "sse", "since": "60"})
    assert code(refused) == (409, "too_many_replays")
    assert set(refused.json()["planned"]) == {replay["id"] for replay in plans}
    await act(reader, plans[0], "cancel")
    assert (await plan(reader))["state"] == "planned"


async def test_it_starts_with_the_count_of_its_plan_only(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 10)
    replay = await plan(reader)
    path = f"/v1/replays/{replay['id']}"
    refused = await reader.http.post(f"{path}/start", json={"expected_count": 9})
    assert code(refused) == (409, "replay_count_differs")
    assert refused.json()["count"] == 10
    assert code(await reader.http.post(f"{path}/pause", json={})) == (409, "replay_state_conflict")
    assert (await start(reader, replay))["state"] == "running"
    assert (await start(reader, replay))["state"] == "running"
    at_once = {"into": "sse", "since": "60", "start": True}
    assert code(await reader.http.post("/v1/replays", json=at_once)) == (422, "invalid_parameter")
    differs = await reader.http.post("/v1/replays", json=at_once | {"expected_count": 3})
    assert code(differs) == (409, "replay_count_differs")
    second = await plan(reader, start=True, expected_count=10)
    assert second["state"] == "running"
    third = await plan(reader)
    refused = await reader.http.post(f"/v1/replays/{third['id']}/start", json={"expected_count": 10})
    assert code(refused) == (409, "too_many_replays")
    assert set(refused.json()["running"]) == {replay["id"], second["id"]}
    assert (await act(reader, second, "cancel"))["state"] == "cancelled"
    assert (await start(reader, third))["state"] == "running"


async def test_pause_holds_every_reader_within_a_second(jobs: Publisher, reader: Reader) -> None:
    known = await publish_history(jobs.store, 400)
    replay = await plan(reader, rate_per_s=100)
    await start(reader, replay)
    arrived: list[tuple[float, Block]] = []
    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream, asyncio.timeout(30):
        reading = asyncio.create_task(collect(stream, arrived))
        while len(arrived) < 20:
            await asyncio.sleep(0.02)
        paused = await act(reader, replay, "pause", why="look first")
        assert (paused["state"], paused["paused_why"]) == ("paused", "look first")
        answered = time.monotonic()
        await asyncio.sleep(2)
        await end(reading)
    assert arrived[-1][0] - answered < 1
    got = [block for _, block in arrived]
    assert len(got) <= len(known.events)
    async with reader.open(f"/v1/replays/{replay['id']}/stream", got[-1].id) as stream:
        (opened,) = await stream.take(1)
        assert opened.event == "replay.opened"
        assert (await act(reader, replay, "resume"))["state"] == "running"
        rest = await stream.rest(30)
    bodies = [block.data.encode() for block in [*got[1:], *rest[:-1]]]
    assert bodies == [event.body for event in known.events]


async def test_a_long_gap_has_heartbeats_whatever_else_happens(nats_server: NatsServer, jobs: Publisher) -> None:
    """Changes of other replays wake the reader far more often than it has to write."""
    await publish_history(jobs.store, 2)
    async with notifier(nats_server.settings, heartbeat_s=3.0) as reader:
        replay = await plan(reader, rate_per_s=0.01)
        await start(reader, replay)
        async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
            await stream.take(2)
            waiting = asyncio.create_task(stream.rest(30))
            before = stream.comments
            try:
                async with asyncio.timeout(20):
                    while stream.comments == before:
                        await act(reader, await plan(reader), "cancel")
            finally:
                await end(waiting)


async def test_progress_is_followed_to_the_end(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 60)
    replay = await plan(reader, rate_per_s=25)
    path = f"/v1/replays/{replay['id']}"
    async with reader.open(f"{path}/events") as progress, reader.open(f"{path}/stream") as stream:
        await start(reader, replay)
        blocks, frames = await asyncio.gather(progress.rest(), stream.rest())
    assert len(frames) == 62
    states = [block.json["state"] for block in blocks]
    assert states == sorted(states, key=["planned", "running", "completed"].index)
    sent = [block.json["progress"]["sent"] for block in blocks if block.json["progress"]]
    assert sent == sorted(sent)
    assert any(0 < number < 60 for number in sent)
    assert (blocks[-1].event, sent[-1]) == ("replay.completed", 60)
    assert (await reader.http.get(f"{path}/events?last_event_id={blocks[-1].id}")).status_code == 204


async def test_a_cancelled_replay_ends_its_streams(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 50)
    replay = await plan(reader, rate_per_s=20)
    await start(reader, replay)
    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
        await stream.take(5)
        assert (await act(reader, replay, "cancel", why="enough"))["state"] == "cancelled"
        last = (await stream.rest(3))[-1]
    assert (last.event, last.json["state"]) == ("replay.closed", "cancelled")


async def test_the_same_key_plans_one_replay(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 10)
    body = {"into": "sse", "since": "3600", "why": "again"}
    key = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(*(reader.http.post("/v1/replays", json=body, headers=key) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await reader.http.post("/v1/replays", json=body | {"since": "60"}, headers=key)
    assert code(other) == (409, "idempotency_key_reused")
    listed = (await reader.http.get("/v1/replays")).json()
    assert [replay["id"] for replay in listed["data"]] == [answers[0].json()["id"]]


async def test_a_rate_at_which_it_never_ends_is_refused_and_not_recorded(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 3)
    wanted = {"into": "sse", "since": "3600", "speed": "max", "rate_per_s": 1e-320}
    answer = await reader.http.post("/v1/replays", json=wanted)
    assert code(answer) == (422, "invalid_parameter")
    assert answer.json()["errors"][0]["pointer"] == "#/rate_per_s"
    assert [record async for record in EventStore(jobs.store.client, OPS.name).history(0)] == []


async def test_lists_have_pages_and_states(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 5)
    made = [await plan(reader) for _ in range(5)]
    await act(reader, made[2], "cancel")
    found: list[str] = []
    cursor = ""
    while True:
        page = (await reader.http.get(f"/v1/replays?limit=2{cursor}")).json()
        found += [replay["id"] for replay in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [replay["id"] for replay in made[::-1]]
    cancelled = (await reader.http.get("/v1/replays?state=cancelled")).json()["data"]
    assert [replay["id"] for replay in cancelled] == [made[2]["id"]]
    assert code(await reader.http.get("/v1/replays?cursor=jobs-1")) == (400, "cursor_invalid")
    assert code(await reader.http.get(f"/v1/replays/{new_id('rpl')}")) == (404, "replay_not_found")


async def test_every_act_stands_in_the_audit_log(jobs: Publisher, reader: Reader) -> None:
    await publish_history(jobs.store, 5)
    replay = await plan(reader, why="a receiver was down")
    await start(reader, replay)
    await act(reader, replay, "pause", why="wait")
    await act(reader, replay, "resume")
    async with reader.open(f"/v1/replays/{replay['id']}/stream") as stream:
        await stream.rest()
    verifier = ChainVerifier()
    async for stored in EventStore(jobs.client, OPS.name).history(0):
        verifier.add(stored.sequence, stored.subject, stored.body)
    records = [record async for record in EventStore(jobs.client, OPS.name).history(0)]
    verbs = [record.subject.rpartition(".")[2] for record in records]
    assert verbs == [
        *("plan_requested", "planned", "start_requested", "started", "pause_requested", "paused"),
        *("resume_requested", "resumed", "end_requested", "completed"),
    ]
    assert not verifier.faults
    assert not verifier.open_intents
    data = [json.loads(record.body)["data"] for record in records]
    assert [record["why"] for record in data[::2]] == [
        *("a receiver was down", "a receiver was down", "wait", "", "every event was sent")
    ]
    assert data[-1]["details"]["counts"]["sent"] == 5
    assert {record["by"] for record in data[:-2]} == {"local"}


@pytest.mark.parametrize(
    ("wanted", "pointer"),
    [
        ({"since": "yesterday"}, "#/since"),
        ({"since": "60", "until": "120"}, "#/until"),
        ({"since": "abc.1"}, "#/since"),
        ({"types": ["upload.created"], "subjects": [JOB]}, "#/types"),
        ({"types": TOO_MANY_TYPES, "subjects": TOO_MANY_IDS}, "#/subjects"),
    ],
)
async def test_a_wrong_window_says_which_field(reader: Reader, wanted: dict[str, Any], pointer: str) -> None:
    answer = await reader.http.post("/v1/replays", json={"into": "sse", "since": "60"} | wanted)
    assert code(answer) == (422, "invalid_parameter")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("into", "expected"),
    [
        ("mail", (422, "invalid_parameter")),
        ("sandbox:Copy", (422, "invalid_parameter")),
        (f"webhook:{WEBHOOK}", (501, "webhooks_not_configured")),
    ],
)
async def test_a_target_that_is_not_there_is_refused(reader: Reader, into: str, expected: tuple[int, str]) -> None:
    assert code(await reader.http.post("/v1/replays", json={"into": into, "since": "60"})) == expected
