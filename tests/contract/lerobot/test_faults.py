"""Server failures never block a robot's loop; every sample is received or counted as dropped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from saccade_robot import (
    HttpTarget,
    NatsTarget,
    RobotClientError,
    Stats,
    Streamer,
    Target,
    find_session,
    open_session,
    target_of,
)

from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port
from tests.harness.sessions.robot_server import NAMES, SESSION, RobotIngestServer, pose, subjects
from tests.harness.sessions.telemetry_listener import TelemetryListener, counted, until

JPEG = b"\xff\xd8\xff" + bytes(3000)


def nats_target(url: str, http: HttpTarget | None = None) -> Target:
    names = subjects()
    return Target(nats=NatsTarget(url, names["joints"], names["frames"], names["clock"]), http=http)


def offer(streamer: Streamer, first: int, seconds: float, rate_hz: float = 200.0) -> int:
    """Offer as a control loop does, and give the next number."""
    end, number = time.monotonic() + seconds, first
    while time.monotonic() < end:
        streamer.offer(pose(number))
        number += 1
        time.sleep(1 / rate_hz)
    return number


def account(stats: Stats, heard: TelemetryListener, offered: int) -> None:
    """Check that the receiver sees as dropped exactly what the sender counted."""
    numbers = counted(heard.samples())
    assert stats.offered == offered
    assert (stats.waiting, stats.unconfirmed) == (0, 0)
    assert len(numbers) + stats.dropped == offered
    assert stats.sent == len(numbers)
    assert [sample.positions for sample in heard.samples()] == [pose(number) for number in numbers]


def test_a_killed_server_costs_what_the_ring_cannot_hold_and_nothing_else(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server, Streamer(nats_target(server.url), names=NAMES, capacity=64) as streamer:
        with TelemetryListener(server) as before:
            until(lambda: streamer.stats().route == "nats")
            number = offer(streamer, 0, 0.5)
            until(lambda: streamer.stats().sent == number)
        server.kill()
        number = offer(streamer, number, 1.0)
        lost = streamer.stats()
        assert lost.route is None
        server.start()
        with TelemetryListener(server) as after:
            number = offer(streamer, number, 1.0)
            until(lambda: streamer.stats().sent + streamer.stats().dropped == number)
            stats = streamer.close()
    after.batches = before.batches + after.batches
    account(stats, after, number)
    numbers = [sample.seq for sample in after.samples()]
    gaps = [(a, b) for a, b in pairwise(numbers) if b != a + 1]
    # One gap, at the oldest: what the ring kept is the newest.
    assert len(gaps) == 1
    assert gaps[0][1] - gaps[0][0] - 1 == stats.dropped > 0
    assert stats.reconnects == 1


def test_a_frozen_server_is_told_all_it_missed_but_what_was_dropped(tmp_path: Path) -> None:
    with (
        EmbeddedNats(tmp_path) as server,
        TelemetryListener(server) as heard,
        Streamer(nats_target(server.url), names=NAMES, capacity=64) as streamer,
    ):
        until(lambda: streamer.stats().route == "nats")
        number = offer(streamer, 0, 0.3)
        process = server._process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        try:
            number = offer(streamer, number, 2.5)
            assert streamer.stats().route is None
            # What is held while nothing arrives is bounded.
            assert streamer.stats().unconfirmed + streamer.stats().waiting < number
        finally:
            os.kill(process.pid, signal.SIGCONT)
        number = offer(streamer, number, 0.5)
        until(lambda: streamer.stats().sent + streamer.stats().dropped == number)
        stats = streamer.close()
    account(stats, heard, number)
    assert stats.dropped > 0


@pytest.mark.parametrize("host", ["no-such-host.invalid", HOST])
def test_a_server_that_was_never_there_costs_the_loop_nothing(host: str) -> None:
    streamer = Streamer(nats_target(f"nats://{host}:{free_port()}"), names=NAMES, capacity=100)
    for number in range(300):
        streamer.offer(pose(number))
        streamer.offer_frame(JPEG)
    until(lambda: streamer.stats().errors > 0)
    began_s = time.monotonic()
    stats = streamer.close(timeout_s=1.0)
    assert time.monotonic() - began_s < 5
    # What was never sent waits still, or was dropped before it; both are known.
    assert (stats.offered, stats.sent, stats.dropped, stats.waiting, stats.route) == (300, 0, 200, 100, None)
    assert stats.frames_offered == stats.frames_skipped + stats.frames_dropped + stats.frames_waiting == 300


@contextmanager
def door_and_dead_nats() -> Iterator[tuple[RobotIngestServer, Target]]:
    with RobotIngestServer(f"nats://{HOST}:{free_port()}") as door:
        yield door, target_of(door.view(), door.url, "key.secret")


def test_http_takes_over_where_nats_is_not_reached() -> None:
    with door_and_dead_nats() as (door, target):
        door.skew_s = -17.25
        with Streamer(target, names=NAMES, frame_rate_hz=1000) as streamer:
            until(lambda: streamer.stats().clock_offset_s is not None)
            number = offer(streamer, 0, 0.3)
            # NATS is given a moment to come back.
            assert streamer.stats().sent == 0
            until(lambda: streamer.stats().route == "http")
            number = offer(streamer, number, 0.5)
            streamer.offer_frame(JPEG, "wrist", 1.7e9)
            stats = streamer.close()
    samples = [sample for batch in door.batches for sample in batch.samples]
    assert counted(samples) == list(range(number))
    assert [sample.positions for sample in samples] == [pose(index) for index in range(number)]
    assert (stats.offered, stats.sent, stats.dropped, stats.frames_sent) == (number, number, 0, 1)
    ((headers, body),) = door.frames
    assert body == JPEG
    assert headers["X-Frame-Source"] == "wrist"
    assert abs(int(headers["X-Frame-Seq"]) / 1e6 - time.time()) < 60
    assert float(headers["X-Frame-Captured-At"]) == 1.7e9
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["Authorization"] == "Bearer key.secret"
    clock = door.batches[-1].clock
    assert clock is not None
    assert abs(clock.offset_s + 17.25) <= clock.error_s + 0.002


def test_nats_takes_over_again_from_http(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    try:
        with RobotIngestServer(server.url) as door, Streamer(target_of(door.view(), door.url), names=NAMES) as streamer:
            streamer.offer(pose(0))
            until(lambda: streamer.stats().sent == 1)
            assert streamer.stats().route == "http"
            server.start()
            until(lambda: streamer.stats().route == "nats")
            with TelemetryListener(server) as heard:
                streamer.offer(pose(1))
                until(lambda: streamer.stats().sent == 2)
    finally:
        server.__exit__(None, None, None)
    samples = [sample for batch in door.batches for sample in batch.samples]
    assert counted([*samples, *heard.samples()]) == [0, 1]


def test_samples_after_another_connect_have_other_numbers(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server, TelemetryListener(server) as heard:
        for number in range(3):
            with Streamer(nats_target(server.url), names=NAMES) as streamer:
                streamer.offer(pose(number))
                until(lambda: streamer.stats().sent == 1)
    samples = heard.samples()
    assert [sample.positions for sample in samples] == [pose(number) for number in range(3)]
    assert all(before.seq < after.seq for before, after in pairwise(samples))
    assert abs(samples[0].seq / 1e6 - time.time()) < 60


def test_what_a_busy_gateway_does_not_take_is_sent_again_and_a_refusal_is_counted() -> None:
    with RobotIngestServer() as door, Streamer(target_of(door.view(), door.url), names=NAMES) as streamer:
        door.answer = 503
        streamer.offer(pose(0))
        until(lambda: streamer.stats().errors >= 2)
        assert streamer.stats().sent == 0
        door.answer = 202
        until(lambda: streamer.stats().sent == 1)
        door.answer = 409
        streamer.offer(pose(1))
        streamer.offer_frame(JPEG)
        until(lambda: streamer.stats().dropped + streamer.stats().frames_dropped == 2)
        stats = streamer.close()
    assert (stats.offered, stats.sent, stats.dropped, stats.unconfirmed) == (2, 1, 1, 0)
    assert [sample.positions for batch in door.batches for sample in batch.samples] == [pose(0)]


def test_closing_ends_though_the_server_hangs() -> None:
    with RobotIngestServer() as door:
        door.pause_s = 5.0
        streamer = Streamer(target_of(door.view(), door.url), names=NAMES)
        streamer.offer(pose(0))
        until(lambda: streamer.stats().waiting == 0)
        began_s = time.monotonic()
        stats = streamer.close(timeout_s=0.5)
        assert time.monotonic() - began_s < 4.0
        # It was on its way, and nobody knows.
        assert (stats.offered, stats.sent, stats.unconfirmed) == (1, 0, 1)
        streamer.offer(pose(1))  # after the end: nothing happens
        until(lambda: not streamer._thread.is_alive())


def test_opening_says_why_it_cannot() -> None:
    with pytest.raises(RobotClientError) as nobody:
        open_session(f"http://{HOST}:{free_port()}")
    assert nobody.value.code == "server_unreachable"
    assert nobody.value.retryable
    with pytest.raises(RobotClientError) as wrong:
        open_session("localhost:8080")
    assert wrong.value.code == "invalid_url"
    for url in ("http://host:abc", "http://host:99999", "http://[::1"):
        with pytest.raises(RobotClientError, match="is not the address"):
            open_session(url)
    with RobotIngestServer() as door:
        session = open_session(door.url, params={"max_splats": 10})
        assert door.opened == [{"workload": "live_splat", "params": {"max_splats": 10}}]
        assert door.headers[0]["Idempotency-Key"]
        below = target_of({"id": session.id}, "https://host/below/")
        assert below.http is not None
        assert below.http.joints == f"https://host/below/v1/sessions/{session.id}/joints"
        assert session.page == f"{door.url}/sessions/{session.id}"
        door.answer = 409
        shown: Any = repr(open_session(door.url, "key.secret"))
        assert "secret" not in shown


def test_a_session_is_opened_once_the_server_has_started(caplog: pytest.LogCaptureFixture) -> None:
    with RobotIngestServer() as door:
        door.starting = 2
        assert open_session(door.url).id == SESSION
        assert len(door.opened) == 1
        assert len({headers["Idempotency-Key"] for headers in door.headers}) == 1, "it is the same session"
        assert len(door.headers) == 3
        door.starting = 1
        assert find_session(door.url, SESSION).id == SESSION
        assert sum("The gateway is starting" in record.message for record in caplog.records) == 2
        door.starting = 9
        began_s = time.monotonic()
        with pytest.raises(RobotClientError) as refused:
            open_session(door.url, patience_s=0.5)
        assert (refused.value.code, refused.value.retryable) == ("starting", True)
        assert time.monotonic() - began_s < 5
