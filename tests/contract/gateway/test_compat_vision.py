"""Clients of the vision system that this one replaces: one answer a frame, captions on later answers, over a socket."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from nats.aio.msg import Msg
from PIL import Image
from websockets.exceptions import ConnectionClosed

from contracts.errors import KINDS, ErrorBody, ErrorCode
from contracts.events.session import SessionFailed, SessionStopped
from contracts.limits import FRAME_BYTES, MIB
from contracts.session import job_id_of_session
from kit.settings import NatsSettings, S3Settings
from modal_workers.vision_stream.spec import WORKLOAD
from tests.harness.clients.vision_replay import connected, exchange, replay, stream_url
from tests.harness.clients.vision_sessions import Served, newest_session, sessions_of, state_of, text, watched
from tests.harness.servers.gateway import RunningGateway
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.sessions.scripted_session_worker import ScriptedSessionWorker, jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORKERS = frozenset(WORKLOAD.requires)


async def test_a_single_frame_is_acknowledged(served: Served) -> None:
    async with connected(stream_url(served[1])) as socket:
        assert await exchange(socket, b"\xff\xd8fake-jpeg-data") == {"frame": 1, "bytes": 16}


async def test_frames_are_counted(served: Served) -> None:
    async with connected(stream_url(served[1])) as socket:
        for number in range(5):
            frame = bytes(range(number * 10, number * 10 + number + 3))
            assert await exchange(socket, frame) == {"frame": number + 1, "bytes": len(frame)}


async def test_an_empty_frame_is_acknowledged(served: Served) -> None:
    async with connected(stream_url(served[1])) as socket:
        assert await exchange(socket, b"") == {"frame": 1, "bytes": 0}


async def test_a_caption_is_attached_to_the_next_acknowledgement_once(served: Served) -> None:
    async with watched(served) as (socket, worker):
        await worker.say(text(1, "opening the fridge"))
        ack = await exchange(socket, jpeg())
        assert (ack.pop("frame"), ack.pop("bytes")) == (2, len(jpeg()))
        start_s = ack.pop("chunk_start_s")
        assert 0.25 <= start_s < 10, "from the moment the connection was accepted"
        assert ack.pop("chunk_end_s") == pytest.approx(start_s + 1.0, abs=0.002)
        assert ack == {"caption": "opening the fridge", "latency_ms": 42, "tokens_generated": 7}
        assert await exchange(socket, jpeg()) == {"frame": 3, "bytes": len(jpeg())}


async def test_an_error_is_told_once_and_the_stream_goes_on(served: Served) -> None:
    async with watched(served) as (socket, worker):
        failed = ErrorBody(code=ErrorCode.INTERNAL, message="modal call failed", hint="", retryable=True)
        await worker.say(text(1, "", finish_reason="error", error=failed, latency=None, tokens=None))
        await worker.say(text(2, "walking outside"))
        assert await exchange(socket, jpeg()) == {
            "frame": 2, "bytes": len(jpeg()), "inference_error": "modal call failed",
        }  # fmt: skip
        assert (await exchange(socket, jpeg()))["caption"] == "walking outside"


async def test_acknowledgements_do_not_wait_for_the_inference(served: Served) -> None:
    """No worker answers at all meanwhile; then its caption comes with the next acknowledgement."""
    async with watched(served) as (socket, worker):
        slowest = 0.0
        for _ in range(20):
            sent_at = time.monotonic()
            assert set(await exchange(socket, jpeg())) == {"frame", "bytes"}
            slowest = max(slowest, time.monotonic() - sent_at)
        assert slowest < 0.2
        await worker.say(text(1, "walking outside"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await socket.recv()  # nothing is sent unasked: it would be taken for the next acknowledgement
        assert (await exchange(socket, jpeg()))["caption"] == "walking outside"


async def test_a_connection_is_one_session_and_its_last_caption_stays_in_the_record(served: Served) -> None:
    running, before = served[0], len(await sessions_of(served[0]))
    async with watched(served) as (_, worker):
        await worker.claim()
        await worker.say(text(1, "a door opens"))
    session = await state_of(running, worker.session_id, "stopping")
    assert (session["workload"], session["metadata"]) == ("vision_stream", {"opened_by": "replaced_vision"})
    assert (session["params"]["chunk_s"], len(await sessions_of(running))) == (1.0, before + 1)
    assert b"a door opens" in b"".join([event.body async for event in running.store.history(0)])


async def test_a_client_that_leaves_at_once_leaves_no_session_open(served: Served) -> None:
    running, address = served
    before = len(await sessions_of(running))
    async with connected(stream_url(address)):
        pass
    session_id = await newest_session(running, before)
    await state_of(running, session_id, "stopping")
    async with asyncio.timeout(20):  # no worker is started for it
        while not (await running.job(job_id_of_session(session_id))).cancel_requested:
            await asyncio.sleep(0.02)


def photo(side_px: int, quality: int = 95) -> bytes:
    """Write a picture that does not compress."""
    noise = np.random.default_rng(7).integers(0, 255, (side_px, side_px, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=quality)
    return file.getvalue()


async def test_large_frames_are_reduced_and_what_is_no_picture_is_counted_as_rejected(served: Served) -> None:
    running, address = served
    before = len(await sessions_of(running))
    large = photo(2000)
    assert FRAME_BYTES < len(large) < 16 * MIB
    async with connected(stream_url(address)) as socket:
        session_id = await newest_session(running, before)
        async with run_scripted_worker(running, session_id) as worker:
            await worker.claim()
            hopeless = b"GIF89a" + bytes(2 * MIB)
            for number, frame in enumerate((large, b"", b"not a picture", hopeless, jpeg()), 1):
                assert await exchange(socket, frame) == {"frame": number, "bytes": len(frame)}
            await worker.heard(frames=5)
            await _totals(worker, 5)
        assert [refusal(msg) for msg in worker.frames] == [
            None, "frame_empty", "frame_unreadable", "frame_too_large", None,
        ]  # fmt: skip
        assert Image.open(io.BytesIO(worker.frames[0].data)).size == (720, 720)
        assert worker.frames[4].data == jpeg()
        assert [int((msg.headers or {})["Frame-Seq"]) for msg in worker.frames] == [1, 2, 3, 4, 5]


async def _totals(worker: ScriptedSessionWorker, sent: int) -> None:
    async with asyncio.timeout(10):
        while worker.totals.sent < sent:
            await asyncio.sleep(0.01)
    assert (worker.totals.accepted, worker.totals.rejected) == (2, 3)


def refusal(msg: Msg) -> str | None:
    return (msg.headers or {}).get("Frame-Refused")


async def test_messages_may_have_16_mib_and_no_more(served: Served) -> None:
    async with connected(stream_url(served[1])) as socket:
        assert await exchange(socket, bytes(16 * MIB)) == {"frame": 1, "bytes": 16 * MIB}
        with pytest.raises(ConnectionClosed) as closed:
            await exchange(socket, bytes(16 * MIB + 1))
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1009


async def test_a_text_message_ends_the_connection(served: Served) -> None:
    async with connected(stream_url(served[1])) as socket:
        await exchange(socket, jpeg())
        await socket.send("frame")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd
        assert closed.value.rcvd.code == 1003


async def test_where_no_worker_can_be_started_frames_are_acknowledged_and_the_cause_is_told_once(
    servers: Servers, tmp_path: Path
) -> None:
    async with (
        served_gateway(*servers, tmp_path, executor="modal") as (_, address),
        connected(stream_url(address)) as socket,
    ):
        acks = [await exchange(socket, jpeg())]
        async with asyncio.timeout(20):
            while "inference_error" not in acks[-1]:
                acks.append(await exchange(socket, jpeg()))
        acks += [await exchange(socket, jpeg()) for _ in range(3)]
    assert [ack["frame"] for ack in acks] == list(range(1, len(acks) + 1))
    assert "inference_error" not in acks[0], "the first acknowledgement never has a result"
    (told,) = [ack["inference_error"] for ack in acks if "inference_error" in ack]
    assert told == KINDS[ErrorCode.SESSIONS_NOT_CONFIGURED].title


async def test_a_session_that_fails_is_told_and_acknowledgements_go_on(served: Served) -> None:
    async with watched(served) as (socket, worker):
        error = ErrorBody(code=ErrorCode.INTERNAL, message="the worker crashed", hint="", retryable=False)
        await worker.say(SessionFailed(error=error, cost_usd=0.0))
        assert (await exchange(socket, jpeg()))["inference_error"] == "the worker crashed"
        assert await exchange(socket, jpeg()) == {"frame": 3, "bytes": len(jpeg())}


async def test_after_a_pause_the_next_frame_opens_another_session(served: Served) -> None:
    running, before = served[0], len(await sessions_of(served[0]))
    async with watched(served) as (socket, worker):
        idle = SessionStopped(reason="idle", chunks=0, totals=worker.totals, result={}, cost_usd=0.0)
        await worker.say(idle)
        assert await exchange(socket, jpeg()) == {"frame": 2, "bytes": len(jpeg())}
        second = await newest_session(running, before + 1)
        assert second != worker.session_id
        await exchange(socket, jpeg())
        await state_of(running, second, "opening")
    await state_of(running, second, "stopping")


async def test_two_connections_never_see_each_other_s_words(served: Served) -> None:
    async with watched(served) as (first, one), watched(served) as (second, two):
        await one.say(text(1, "of the first"))
        await two.say(text(1, "of the second"))
        assert (await exchange(second, jpeg()))["caption"] == "of the second"
        assert (await exchange(first, jpeg()))["caption"] == "of the first"


async def test_the_public_replay_gets_captions(served: Served) -> None:
    """In lock-step at 30 fps, with a worker that describes every fifth frame."""
    running, address = served
    before = len(await sessions_of(running))
    describing = asyncio.ensure_future(_describe(running, before))
    try:
        found = await replay(stream_url(address), [jpeg()] * 45, 30.0)
    finally:
        describing.cancel()
    assert (found.sent_frames, found.errors) == (45, [])
    assert found.captions[:2] == ["chunk 1", "chunk 2"]
    assert found.captions == [f"chunk {number}" for number in range(1, len(found.captions) + 1)]
    assert found.slowest_ack_s < 0.2


async def _describe(running: RunningGateway, before: int) -> None:
    session_id = await newest_session(running, before)
    async with run_scripted_worker(running, session_id) as worker:
        await worker.claim()
        for chunk in range(1, 10):
            while len(worker.frames) < chunk * 5:
                await asyncio.sleep(0.01)
            await worker.say(text(chunk, f"chunk {chunk}"))


async def test_an_oversized_stream_does_not_grow(served: Served) -> None:
    """A flood without reading: the buffer is bounded, every frame is answered, in order."""
    address = served[1]
    frame = b"\xff\xd8" + bytes(200_000)
    async with connected(stream_url(address)) as socket:

        async def send_all() -> None:
            for _ in range(300):
                await socket.send(frame)

        sending = asyncio.ensure_future(send_all())
        async with asyncio.timeout(60):
            acks = [json.loads(await socket.recv()) for _ in range(300)]
        await sending
    assert [ack["frame"] for ack in acks] == list(range(1, 301))
