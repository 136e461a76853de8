"""Session events as server-sent events: the whole life, its newest figures, a snapshot after a gap, the end."""

from __future__ import annotations

import pytest

from contracts.events.base import Message
from contracts.events.session import (
    FrameTotals,
    SessionAlert,
    SessionFrameAcked,
    SessionOpened,
    SessionProgressed,
    SessionPromptRequested,
    SessionReady,
    SessionStarted,
    SessionStopped,
    SessionText,
    SessionTextDelta,
)
from contracts.ids import new_id
from services.notifier.streams.sse import StreamEvent
from services.notifier.streams.subscriber import StreamBacklog
from services.notifier.webhooks.endpoints.schemas import subscribable
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import RUN_ID, Publisher, notifier, publisher

pytestmark = pytest.mark.anyio

SEEN = FrameTotals(sent=3, accepted=2, dropped=1)


async def begin(sessions: Publisher) -> str:
    session_id = new_id("ses")
    opened = SessionOpened(
        workload="live_splat", workload_version="1", params={"seed": 4}, idle_timeout_s=9, max_length_s=99
    )
    await sessions.say(session_id, opened)
    await sessions.say(session_id, SessionReady(attempt=1, run_id=RUN_ID, device="cpu"))
    await sessions.say(session_id, SessionStarted(run_id=RUN_ID))
    return session_id


def progressed(psnr_db: float, run_id: str = RUN_ID) -> SessionProgressed:
    return SessionProgressed(run_id=run_id, totals=SEEN, figures={"psnr_db": psnr_db})


def stopped() -> SessionStopped:
    return SessionStopped(reason="asked", chunks=0, totals=SEEN, result={}, cost_usd=0)


async def test_a_session_is_followed_from_its_beginning_to_its_end(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as sessions, notifier(nats_server.settings) as reader:
        session_id = await begin(sessions)
        await sessions.say(session_id, progressed(17.0))
        await sessions.say(session_id, SessionFrameAcked(run_id=RUN_ID, acks=[], totals=SEEN))
        async with reader.open(f"/v1/sessions/{session_id}/events") as stream:
            blocks = await stream.take(5)
            assert [one.event for one in blocks[:3]] == ["session.opened", "session.ready", "session.started"]
            # What stands in no history is shown at once all the same, so that figures do not begin empty.
            assert {one.event for one in blocks[3:]} == {"session.progressed", "session.frame_acked"}
            assert all(one.id is None for one in blocks[3:])
            await sessions.say(session_id, progressed(18.0))
            (live,) = await stream.take(1)
            assert live.json["data"]["figures"] == {"psnr_db": 18.0}
            await sessions.say(session_id, stopped())
            assert [one.event for one in await stream.rest()] == ["session.stopped"]
        async with reader.open(f"/v1/sessions/{session_id}/events") as stream:
            ended = await stream.rest()
            assert [one.event for one in ended][-1] == "session.stopped"
        async with reader.open(f"/v1/sessions/{session_id}/events", cursor=ended[-1].id) as stream:
            assert stream.status == 204


async def test_figures_of_an_attempt_that_is_over_are_not_shown(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as sessions, notifier(nats_server.settings) as reader:
        session_id = await begin(sessions)
        await sessions.say(session_id, progressed(17.0, run_id="run_0"))
        async with reader.open(f"/v1/sessions/{session_id}/events") as stream:
            await stream.take(3)
            await sessions.say(session_id, progressed(9.0))
            (live,) = await stream.take(1)
            assert live.json["data"]["figures"] == {"psnr_db": 9.0}


async def test_the_words_of_a_session_are_told(nats_server: NatsServer) -> None:
    """Texts and alerts are in the history; of the text that is being generated the newest part comes live."""
    async with publisher(nats_server.settings) as sessions, notifier(nats_server.settings) as reader:
        session_id = await begin(sessions)
        await sessions.say(session_id, SessionText(run_id=RUN_ID, chunk=1, text="The cube falls."))
        async with reader.open(f"/v1/sessions/{session_id}/events") as stream:
            *_, text = await stream.take(4)
            assert (text.event, text.json["data"]["text"]) == ("session.text", "The cube falls.")
            assert text.id is not None
            await sessions.say(session_id, SessionTextDelta(run_id=RUN_ID, chunk=2, n=1, delta="The", text="The"))
            (delta,) = await stream.take(1)
            assert (delta.event, delta.id, delta.json["data"]["text"]) == ("session.text_delta", None, "The")
            alert = SessionAlert(
                run_id=RUN_ID, alert=1, rule="dropped", condition="it falls", chunk=1, confidence=0.9, text="It."
            )
            await sessions.say(session_id, alert)
            asked = SessionPromptRequested(prompt_id=new_id("prm"), text="What?", by="tenant:local")
            await sessions.say(session_id, asked)
            told = await stream.take(2)
            assert [one.event for one in told] == ["session.alert", "session.prompt_requested"]
            assert all(one.id for one in told)


def test_webhooks_get_texts_and_alerts_but_no_deltas() -> None:
    assert {"session.text", "session.alert"} <= set(subscribable())
    assert "session.text_delta" not in subscribable()


async def test_after_a_gap_the_sessions_state_is_told(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as sessions, notifier(nats_server.settings) as reader:
        session_id = await begin(sessions)
        path = f"/v1/sessions/{session_id}/events"
        async with reader.open(path, cursor="before.3") as stream:
            gap, snapshot, *rest = await stream.take(5)
        assert (gap.event, gap.json["after"], snapshot.event, snapshot.id) == ("gap", "before.3", "snapshot", None)
        assert (snapshot.json["id"], snapshot.json["state"]) == (session_id, "running")
        assert snapshot.json["opened"]["params"] == {"seed": 4}
        assert [one.event for one in rest] == ["session.opened", "session.ready", "session.started"]
        await sessions.client.jetstream().purge_stream("EVENTS", keep=1)
    async with publisher(nats_server.settings), notifier(nats_server.settings) as reader, reader.open(path) as stream:
        gap, snapshot, started = await stream.take(3)
        assert (gap.event, started.event) == ("gap", "session.started")
        assert (snapshot.json["state"], snapshot.json["opened"]) == ("running", None)


async def test_what_is_no_session_of_the_tenant_is_not_there(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings), notifier(nats_server.settings) as reader:
        for wrong in (new_id("ses"), new_id("job"), "x"):
            answer = await reader.http.get(f"/v1/sessions/{wrong}/events")
            assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


def test_of_what_waits_for_a_slow_client_the_newest_of_each_kind_stays() -> None:
    session_id = new_id("ses")

    def event(verb: str, number: int, sequence: int = 0) -> StreamEvent:
        body = Message("", "", b'{"n":%d}' % number).body
        return StreamEvent("local", "session", session_id, f"session.{verb}", body, "e", sequence)

    backlog = StreamBacklog()
    assert not backlog.put_progress(event("progressed", 1))
    assert not backlog.put_progress(event("frame_acked", 2))
    assert backlog.put_progress(event("progressed", 3))
    assert len(backlog) == 2
    frames = backlog.next_frames()
    assert (b'{"n":2}' in frames, b'{"n":3}' in frames, b'{"n":1}' in frames) == (True, True, False)
    backlog.put_progress(event("progressed", 4))
    backlog.put_progress(event("frame_acked", 5))
    backlog.put(event("stopped", 6, sequence=9))
    assert backlog.next_frames().count(b"event:") == 1
