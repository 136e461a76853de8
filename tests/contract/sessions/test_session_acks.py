"""Acknowledgements of frames at receipt: exactly one for each, in order, whatever is sent."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from contracts.limits import KIB
from contracts.telemetry import FRAME_REFUSED
from kit.settings import NatsSettings, S3Settings
from services.gateway.telemetry.frame_rate import FrameRate
from tests.harness.servers.session_sockets import Served, closed, frame, serving, until
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]


async def acks(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[dict[str, Any]]:
    """Read so many acknowledgements."""
    return [await until(socket, "ack") for _ in range(count)]


def seen(ack: dict[str, Any]) -> tuple[Any, ...]:
    return ack["seq"], ack["status"], ack["reason"]


async def test_each_frame_gets_one_ack_at_receipt_and_in_order(served: Served):
    session_id = (await served.opened())["id"]
    sent = [
        (frame(1), (1, "accepted", None)),
        (b"", (None, "rejected", "malformed_request")),
        (frame(2, b""), (2, "rejected", "frame_empty")),
        (frame(3, b"GIF89a" + bytes(100)), (3, "rejected", "frame_unreadable")),
        (frame(4, jpeg()[:60]), (4, "rejected", "frame_unreadable")),
        (frame(5, b"\xff\xd8" + bytes(2 << 20)), (5, "rejected", "frame_too_large")),
        (b"\x00\x00\x00\x02[]x", (None, "rejected", "invalid_parameter")),
        (frame(1), (1, "accepted", None)),
        (frame(0, source="other"), (0, "accepted", None)),
        (jpeg(), (None, "rejected", "malformed_request")),
    ]
    async with served.stream(session_id, "?acks=1") as socket:  # no worker has begun: acks do not wait for one
        for message, _ in sent:
            await socket.send_bytes(message)
        received = await acks(socket, len(sent))
        assert [seen(ack) for ack in received] == [expected for _, expected in sent]
        assert [ack["queue_depth"] for ack in received] == [1, 1, 1, 1, 1, 1, 1, 1, 2, 2]
        assert all(ack["detail"] and ack["hint"] for ack in received if ack["status"] != "accepted")
        await socket.send_str("no JSON")
        assert (await until(socket, "error"))["code"] == "malformed_request"
        await socket.send_bytes(frame(9))
        assert seen(await until(socket, "ack")) == (9, "accepted", None)


async def test_the_queue_depth_falls_with_the_verdicts_of_the_worker(served: Served):
    session_id = (await served.opened())["id"]
    async with (
        run_scripted_worker(served.running, session_id) as worker,
        served.stream(session_id, "?acks=1") as socket,
    ):
        await worker.claim()
        worker.judging.clear()
        for seq in range(5):
            await socket.send_bytes(frame(seq))
        assert [ack["queue_depth"] for ack in await acks(socket, 5)] == [1, 2, 3, 4, 5]
        worker.judging.set()
        async with asyncio.timeout(20):
            while (await until(socket, "session.frame_acked"))["data"]["totals"]["accepted"] < 5:
                pass
            # The gateway counts verdicts by a subscription of its own, which may be behind the one that told of them.
            seq = 5
            await socket.send_bytes(frame(seq))
            while (await until(socket, "ack"))["queue_depth"] > 1:
                seq += 1
                await socket.send_bytes(frame(seq))


async def test_a_flood_is_dropped_at_the_door_and_all_counts_add_up(served: Served):
    session_id = (await served.opened())["id"]
    count = 90
    # A clock that stands still: how many frames a loaded machine sends in a second decides nothing.
    served.running.app.state.session_ingest._rates[session_id] = FrameRate(lambda: 0.0)
    async with (
        run_scripted_worker(served.running, session_id) as worker,
        served.stream(session_id, "?acks=1") as socket,
    ):
        await worker.claim()
        for seq in range(count):
            await socket.send_bytes(frame(seq))
        received = await acks(socket, count)
        assert [ack["seq"] for ack in received] == list(range(count))
        dropped = [ack for ack in received if ack["status"] == "dropped"]
        assert {ack["reason"] for ack in dropped} == {"rate_limited"}
        assert [ack["status"] for ack in received] == ["accepted"] * 60 + ["dropped"] * 30
        await worker.heard(frames=count)
        assert sum(one.headers.get(FRAME_REFUSED) == "rate_limited" for one in worker.frames) == len(dropped)
        assert all(one.data for one in worker.frames if FRAME_REFUSED not in one.headers)
        await socket.send_bytes(frame(count, source="second"))  # another camera has a rate of its own
        assert seen(await until(socket, "ack")) == (count, "accepted", None)
        async with asyncio.timeout(20):
            while (totals := (await until(socket, "session.frame_acked"))["data"]["totals"])["sent"] <= count:
                pass
        assert (totals["dropped"], totals["accepted"], totals["rejected"]) == (
            len(dropped),
            count + 1 - len(dropped),
            0,
        )


async def test_frames_for_a_session_that_has_ended_are_rejected(served: Served):
    session_id = (await served.opened())["id"]
    async with (
        run_scripted_worker(served.running, session_id) as worker,
        served.stream(session_id, "?acks=1") as socket,
    ):
        await worker.claim()
        await socket.send_str(json.dumps({"type": "stop"}))
        await until(socket, "session.stop_requested")
        await socket.send_bytes(frame(1))
        assert seen(await until(socket, "ack")) == (1, "rejected", "session_ended")


async def test_without_acks_nothing_has_changed(served: Served):
    session_id = (await served.opened())["id"]
    async with served.stream(session_id) as socket:
        await socket.send_bytes(frame(1))
        await socket.send_bytes(frame(2, b""))
        kinds = []
        while (message := json.loads(await socket.receive_str()))["type"] != "error":
            kinds.append(message["type"])
        assert not {"ack", "resume"} & set(kinds)
        assert (message["seq"], message["code"]) == (2, "frame_empty")


async def play(served: Served, seed: int) -> None:
    """Send a random mixture over one or two sockets of a session, which are cut off now and then."""
    draw = random.Random(seed)
    session_id = (await served.opened(workload="described"))["id"]
    picture = jpeg()
    async with run_scripted_worker(served.running, session_id) as worker:
        if draw.random() < 0.7:
            await worker.claim()

        async def one_socket(source: str) -> None:
            sent: list[int | None] = []
            seq = 0
            async with served.stream(session_id, "?acks=1") as socket:
                reading = asyncio.ensure_future(_read_acks(socket, sent_all := asyncio.Event(), sent))
                for _ in range(draw.randint(5, 40)):
                    kind = draw.choice(["good", "good", "good", "empty", "broken", "none", "prompt", "ping", "pause"])
                    if kind in ("good", "empty", "broken"):
                        seq += draw.randint(0, 2)
                        body = {"good": picture, "empty": b"", "broken": picture[: draw.randint(1, 100)]}[kind]
                        sent.append(seq)
                        await socket.send_bytes(frame(seq, body, source=source))
                    elif kind == "none":
                        sent.append(None)
                        await socket.send_bytes(draw.randbytes(draw.randint(0, 3)))
                    elif kind == "prompt":
                        await socket.send_str(json.dumps({"type": "prompt", "text": "What?"}))
                    elif kind == "ping":
                        await socket.send_str(json.dumps({"type": "clock_ping", "sent_at_s": 1}))
                    else:
                        await asyncio.sleep(draw.random() * 0.01)
                sent_all.set()
                received = await reading
            assert received == sent, (seed, source)

        await asyncio.gather(*(one_socket(f"camera{number}") for number in range(draw.randint(1, 2))))


async def _read_acks(
    socket: aiohttp.ClientWebSocketResponse, sent_all: asyncio.Event, sent: list[int | None]
) -> list[int | None]:
    received: list[int | None] = []
    async with asyncio.timeout(20):
        while not (sent_all.is_set() and len(received) >= len(sent)):
            try:
                message = json.loads(await socket.receive_str(timeout=0.1))
            except TimeoutError:
                continue
            if message["type"] == "ack":
                received.append(message["seq"])
    return received


@pytest.mark.soak
async def test_no_ack_is_lost_or_out_of_order_in_random_sessions(served: Served, soak_runs: int):
    for seed in range(5 * soak_runs):
        await play(served, seed)


async def test_a_client_that_never_reads_its_acks_is_closed(session_servers: Servers, tmp_path: Path):
    """Its acknowledgements are not kept without end, another client is served meanwhile, and it is told why."""
    message = b"\x82\x80" + bytes(4)  # an empty binary message, masked with zeros (RFC 6455, section 5.2)
    async with serving(session_servers, tmp_path, send_buffer_bytes=32 * KIB) as served:
        session_id = (await served.opened())["id"]
        host, port = served.url.removeprefix("http://").split(":")
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        raw.connect((host, int(port)))
        head = f"GET /v1/sessions/{session_id}/stream?acks=1 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        head += "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        raw.sendall(f"{head}Sec-WebSocket-Version: 13\r\n\r\n".encode())
        raw.setblocking(False)
        session_readers = served.running.app.state.session_streams.session_readers
        loop = asyncio.get_running_loop()
        async with served.stream((await served.opened())["id"], "?acks=1") as other, asyncio.timeout(30):
            while session_id not in session_readers._readers:
                await asyncio.sleep(0.01)
            (backlog,) = session_readers._readers[session_id]
            most, seq = 0, 0
            while not backlog.too_slow:
                await loop.sock_sendall(raw, message * 100)
                most = max(most, len(backlog._replies))
                await other.send_bytes(frame(seq := seq + 1, b""))
                assert (await until(other, "ack"))["seq"] == seq
            assert most <= 1000
            received = b""
            while b"too slow" not in received:
                received += await loop.sock_recv(raw, 1 << 16)
            code = int.from_bytes(received[received.rindex(b"\x88") + 2 :][:2])
            assert code == 1013
        raw.close()


async def test_a_message_that_is_too_large_ends_the_connection(served: Served):
    session_id = (await served.opened(workload="described"))["id"]
    async with served.stream(session_id, "?acks=1") as socket:
        try:
            await socket.send_bytes(bytes(40 << 20))
        except ConnectionError:
            return  # it was cut off while it was sent
        assert await closed(socket) in (1009, 1006)
