"""Replays that the server carries out: pace, pause, cancellation, failures, and another notifier that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.ids import new_id
from contracts.replay import Replay, ReplayInto, ReplayPace, ReplaySelection
from contracts.streams import IDEMPOTENCY, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.history.history import History, HistoryEvent
from kit.tasks import end
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.planner import ReplayRequest
from services.notifier.replays.replay_service import ReplayCaller
from services.notifier.replays.replays import Replays
from services.notifier.replays.target import SendOutcome, TargetKinds
from tests.harness.replays.history import publish_history
from tests.harness.replays.line_target import LineKind
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Publisher, publisher, submitted

pytestmark = pytest.mark.anyio

OPERATOR = ReplayCaller("local", "ada", True, True, True, "req_1")
INTO = ReplayInto.parse(f"webhook:{new_id('whk')}")


class Party:
    """A notifier's replays with one kind of target."""

    def __init__(self, server: NatsServer, kind: LineKind) -> None:
        self._server = server
        self.kind = kind
        self.positions: Callable[[Cursor], int | None] = lambda cursor: cursor.sequence

    def _position(self, cursor: Cursor) -> int | None:
        return self.positions(cursor)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Replays]:
        client = await connect(self._server.settings, "test")
        replays = Replays(
            AuditLog(EventStore(client, OPS.name), "/notifier"),
            History(EventStore(client)),
            Idempotency(EventStore(client, IDEMPOTENCY.name)),
            TargetKinds({"webhook": self.kind}),
            position_of=self._position,
            heartbeat_s=15,
            maximum_readers=10,
            traffic=LiveTraffic(),
        )
        task = asyncio.ensure_future(replays.run())
        try:
            await replays.service.records.wait_until_read()
            yield replays
        finally:
            await end(task)
            await client.close()


@pytest.fixture
async def jobs(nats_server: NatsServer) -> AsyncIterator[Publisher]:
    async with publisher(nats_server.settings) as found:
        yield found


@pytest.fixture
def party(nats_server: NatsServer, jobs: Publisher, tmp_path: Path) -> Party:
    return Party(nats_server, LineKind(tmp_path))


async def begin(replays: Replays, **pace: Any) -> Replay:
    selection = ReplaySelection(tenants=("local",))
    wanted = ReplayRequest(INTO, selection, ReplayPace.model_validate({"speed": "max"} | pace), since="3600")
    planned = await replays.service.plan(OPERATOR, wanted, "test", None)
    return await replays.service.start(OPERATOR, planned.id, planned.plan.count, "")


async def until(replays: Replays, replay: Replay, state: str, timeout_s: float = 10) -> Replay:
    async with asyncio.timeout(timeout_s):
        while (current := replays.service.get(OPERATOR, replay.id)).state != state:
            await replays.service.records.changed(0.2)
    return current


def sequences(party: Party, replay: Replay) -> list[int]:
    path = party.kind.folder / replay.id
    return [json.loads(line)["sequence"] for line in path.read_text().splitlines()] if path.exists() else []


async def sent(party: Party, replay: Replay, count: int) -> None:
    """Wait until the target has so many."""
    async with asyncio.timeout(10):
        while len(sequences(party, replay)) < count:
            await asyncio.sleep(0.02)


async def test_every_event_is_sent_once_and_counted(jobs: Publisher, party: Party) -> None:
    known = await publish_history(jobs.store, 120)
    odd = {event.sequence for event in known.events if event.sequence % 20 == 0}
    party.kind.outcome_of = lambda event: SendOutcome.SKIPPED if event.sequence in odd else SendOutcome.SENT
    async with party.running() as replays:
        replay = await begin(replays)
        ended = await until(replays, replay, "completed")
    assert sequences(party, replay) == [event.sequence for event in known.events]
    assert ended.counts is not None
    assert (ended.counts.sent, ended.counts.skipped, ended.counts.failed) == (120 - len(odd), len(odd), 0)
    assert [state for state, _ in party.kind.opened[0].closed] == ["completed"]


async def test_the_pace_is_that_of_the_events(jobs: Publisher, party: Party) -> None:
    job_id = new_id("job")
    for pause_s in (0.0, 0.3, 0.05, 0.6, 0.01, 0.2, 1.5):
        await asyncio.sleep(pause_s)
        await jobs.say(job_id, submitted())
    moments: list[float] = []
    times: list[datetime] = []

    def note(event: HistoryEvent) -> SendOutcome:
        moments.append(time.monotonic())
        times.append(event.time)
        return SendOutcome.SENT

    party.kind.outcome_of = note
    async with party.running() as replays:
        for speed, factor, gap_s in (("1x", 1, None), ("4x", 4, None), ("1x", 1, 0.25)):
            moments.clear()
            times.clear()
            replay = await begin(replays, speed=speed, max_gap_s=gap_s)
            await until(replays, replay, "completed")
            gaps = [(later - earlier).total_seconds() / factor for earlier, later in itertools.pairwise(times)]
            due = itertools.accumulate(gap if gap_s is None else min(gap, gap_s) for gap in gaps)
            late = [at - moments[0] - wanted for wanted, at in zip(due, moments[1:], strict=True)]
            # How late it is on a machine with nothing else to do: bench/replays.py.
            assert min(late) > -0.02, (speed, gap_s, late)
            assert statistics.median(late) < 0.1, (speed, gap_s, late)


async def test_a_pause_takes_effect_while_the_target_waits(jobs: Publisher, party: Party) -> None:
    known = await publish_history(jobs.store, 50)
    async with party.running() as replays:
        party.kind.open_gate.clear()
        replay = await begin(replays)
        await asyncio.sleep(0.2)
        await replays.service.pause(OPERATOR, replay.id, "quiet")
        began = time.monotonic()
        while not party.kind.opened[0].closed:
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.02)
        party.kind.open_gate.set()
        await asyncio.sleep(0.3)
        assert sequences(party, replay) == []
        await replays.service.resume(OPERATOR, replay.id, "")
        await until(replays, replay, "completed")
    assert sequences(party, replay) == [event.sequence for event in known.events]


async def test_it_pauses_itself_when_too_many_fail(jobs: Publisher, party: Party) -> None:
    await publish_history(jobs.store, 200)
    failing = True
    party.kind.outcome_of = lambda _: SendOutcome.FAILED if failing else SendOutcome.SENT
    async with party.running() as replays:
        replay = await begin(replays)
        paused = await until(replays, replay, "paused")
        assert "of the last 50 events failed" in paused.paused_why
        held = len(sequences(party, replay))
        assert held == 11
        failing = False
        await replays.service.resume(OPERATOR, replay.id, "it answers again")
        ended = await until(replays, replay, "completed")
    assert ended.counts is not None
    assert (ended.counts.sent, ended.counts.failed) == (200 - held, held)


async def test_another_notifier_goes_on_where_the_target_is(jobs: Publisher, party: Party) -> None:
    known = await publish_history(jobs.store, 150)
    async with party.running() as second:
        async with party.running() as first:
            replay = await begin(first, rate_per_s=200)
            await sent(party, replay, 40)
        ended = await until(second, replay, "completed", timeout_s=20)
    assert sequences(party, replay) == [event.sequence for event in known.events]
    assert ended.counts is not None
    assert ended.counts.sent == len(known.events)


async def test_a_cancelled_replay_sends_nothing_more(jobs: Publisher, party: Party) -> None:
    await publish_history(jobs.store, 200)
    async with party.running() as replays:
        replay = await begin(replays, rate_per_s=100)
        await sent(party, replay, 10)
        await replays.service.cancel(OPERATOR, replay.id, "")
        await asyncio.sleep(0.1)
        held = len(sequences(party, replay))
        await asyncio.sleep(0.5)
        assert len(sequences(party, replay)) == held < 200
        assert [state for state, _ in party.kind.opened[0].closed] == ["cancelled"]


async def test_what_the_target_refuses_ends_it(jobs: Publisher, party: Party) -> None:
    await publish_history(jobs.store, 20)

    def refuse(_: HistoryEvent) -> SendOutcome:
        raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)

    party.kind.outcome_of = refuse
    async with party.running() as replays:
        ended = await until(replays, await begin(replays), "failed")
    assert ended.error is not None
    assert ended.error.code == "webhook_disabled"


@pytest.mark.parametrize("code", [ErrorCode.BUS_UNAVAILABLE, ErrorCode.STORAGE_UNAVAILABLE])
async def test_what_is_away_for_a_moment_ends_nothing(jobs: Publisher, party: Party, code: ErrorCode) -> None:
    known = await publish_history(jobs.store, 20)
    away = [SaccadeError(code)]

    def be_away_once(event: HistoryEvent) -> SendOutcome:
        if event.sequence == known.events[9].sequence and away:
            raise away.pop()
        return SendOutcome.SENT

    party.kind.outcome_of = be_away_once
    async with party.running() as replays:
        replay = await begin(replays)
        async with asyncio.timeout(10):
            while not (current := replays.service.get(OPERATOR, replay.id)).state.ended:
                await replays.service.records.changed(0.2)
    assert current.state == "completed"
    assert sequences(party, replay) == [event.sequence for event in known.events]


async def test_events_of_a_lost_branch_are_never_sent(jobs: Publisher, party: Party) -> None:
    await publish_history(jobs.store, 20)
    async with party.running() as replays:
        party.kind.open_gate.clear()
        replay = await begin(replays)
        await replays.service.pause(OPERATOR, replay.id, "")
        async with asyncio.timeout(5):
            while not party.kind.opened or not party.kind.opened[0].closed:
                await asyncio.sleep(0.02)
        # The stream was restored to an older point meanwhile.
        party.positions = lambda _: None
        party.kind.open_gate.set()
        await replays.service.resume(OPERATOR, replay.id, "")
        ended = await until(replays, replay, "failed")
    assert ended.error is not None
    assert ended.error.code == "history_expired"
    assert sequences(party, replay) == []


async def test_a_plan_that_was_not_started_in_an_hour_ends(jobs: Publisher, party: Party) -> None:
    await publish_history(jobs.store, 5)
    async with party.running() as replays:
        selection = ReplaySelection(tenants=("local",))
        wanted = ReplayRequest(INTO, selection, ReplayPace(), since="3600")
        planned = await replays.service.plan(OPERATOR, wanted, "test", None)
        late = datetime.fromtimestamp(planned.plan.expires_at.timestamp() + 1, UTC)
        replays.service.now = lambda: late
        with pytest.raises(SaccadeError, match="expired"):
            await replays.service.start(OPERATOR, planned.id, planned.plan.count, "")
