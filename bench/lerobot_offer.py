"""Benchmark of streaming in a control loop: time inside ``offer`` against a blocking POST, in each failure mode.

A loop at 200 Hz offers six joints, and with ``--frames`` a picture at each sixth tick, for some seconds in each state
of the server: up, frozen (SIGSTOP), killed, unresolvable name, and NATS dead with HTTP as fallback. For comparison the
same loop posts each sample over one persistent connection of ``http.client``, with a timeout of 2 s. Both servers run
in processes of their own. The states alternate, for ``--rounds``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from bench.needs import needs

needs("nats-server", "numpy", "saccade_robot")

import numpy
from saccade_robot import HttpTarget, NatsTarget, Scale, Stats, Streamer, Target

from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port
from tests.harness.sessions.robot_server import NAMES, RobotIngestServer, pose, subjects

RATE_HZ = 200.0
POST_TIMEOUT_S = 2.0
STATES = ("up", "frozen", "killed", "unresolvable", "HTTP takes over")


def serve(pipe: Connection) -> None:
    with RobotIngestServer() as door:
        pipe.send(door.url)
        pipe.recv()


@contextmanager
def served() -> Iterator[tuple[str, int]]:
    """Run the HTTP server in a process of its own; yield its address and process id."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv(), process.pid or 0
    finally:
        process.kill()
        process.join()


def loop(seconds: float, work: Callable[[int], None]) -> tuple[list[int], int]:
    """Call ``work`` at each tick; return the nanoseconds of each call and the number of missed ticks."""
    taken: list[int] = []
    period_s = 1 / RATE_HZ
    begins_s = time.perf_counter()
    tick = missed = 0
    while tick * period_s < seconds:
        late_s = time.perf_counter() - begins_s - tick * period_s
        if late_s < 0:
            time.sleep(-late_s)
        began = time.perf_counter_ns()
        work(tick)
        ended = time.perf_counter_ns()
        taken.append(ended - began)
        # A call that outlasts the period takes the next ticks with it.
        over = (ended - began) * 1e-9 // period_s
        missed += int(over)
        tick += 1 + int(over)
    return taken, missed


def streaming(state: str, seconds: float, frames: bool, folder: Path) -> tuple[list[int], int, Stats]:
    """Offer in a state of the server."""
    names = subjects()
    with EmbeddedNats(folder) as nats, served() as (url, _):
        address = "nats://no-such-host.invalid:4222" if state == "unresolvable" else nats.url
        takes_over = HttpTarget(f"{url}/joints", f"{url}/frames", f"{url}/v1/clock")
        target = Target(
            nats=NatsTarget(address, names["joints"], names["frames"]),
            http=takes_over if state == "HTTP takes over" else None,
        )
        streamer = Streamer(target, names=NAMES, scales=[Scale(math.pi / 180)] * 6, frame_rate_hz=30)
        begun_s = time.monotonic()
        while state != "unresolvable" and streamer.stats().route is None and time.monotonic() < begun_s + 10:
            time.sleep(0.01)
        process = nats._process  # noqa: SLF001 - to freeze it
        assert process is not None
        if state == "frozen":
            os.kill(process.pid, signal.SIGSTOP)
        elif state in {"killed", "HTTP takes over"}:
            nats.kill()
        pictures = [numpy.random.default_rng(n).integers(0, 255, (480, 640, 3), numpy.uint8) for n in range(8)]

        poses = [pose(tick) for tick in range(1000)]

        def work(tick: int) -> None:
            streamer.offer(poses[tick % 1000])
            if frames and tick % 6 == 0:
                streamer.offer_frame(pictures[tick // 6 % 8], "wrist")

        taken, missed = loop(seconds, work)
        if state == "frozen":
            os.kill(process.pid, signal.SIGCONT)
        return taken, missed, streamer.close()


def posting(state: str, seconds: float) -> tuple[list[int], int]:
    """Post in a state of the server."""
    with served() as (url, pid):
        host = url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=POST_TIMEOUT_S)
        if state == "unresolvable":
            connection = http.client.HTTPConnection("no-such-host.invalid", 80, timeout=POST_TIMEOUT_S)
        elif state == "killed":
            connection = http.client.HTTPConnection(HOST, free_port(), timeout=POST_TIMEOUT_S)
        elif state == "frozen":
            os.kill(pid, signal.SIGSTOP)

        def work(tick: int) -> None:
            sample = [tick, time.time(), pose(tick)]
            body = json.dumps({"names": NAMES, "unit": "rad", "samples": [sample]}).encode()
            try:
                connection.request("POST", "/v1/sessions/s/joints", body, {"Content-Type": "application/json"})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()

        try:
            return loop(seconds, work)
        finally:
            connection.close()
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def row(name: str, taken: list[int], missed: int, stats: Stats | None = None) -> str:
    ordered = sorted(taken)
    figures = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 for share in (0.5, 0.99, 0.999, 1.0)]
    told = "" if stats is None else f"{stats.offered} | {stats.sent} | {stats.dropped} | {stats.waiting}"
    return (
        f"| {name} | {len(taken)} | " + " | ".join(f"{f:,.1f}" for f in figures) + f" | {missed} | {told or ' | | |'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each state and round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--frames", action="store_true", help="offer 640 x 480 pictures too, 33 a second")
    options = parser.parse_args()
    found: dict[str, tuple[list[int], int, list[Stats]]] = {}
    for _ in range(options.rounds):
        for state in STATES:
            with tempfile.TemporaryDirectory() as folder:
                taken, missed, stats = streaming(state, options.seconds, options.frames, Path(folder))
            had = found.setdefault(f"offer, {state}", ([], 0, []))
            found[f"offer, {state}"] = (had[0] + taken, had[1] + missed, [*had[2], stats])
            if state != STATES[-1]:
                taken, missed = posting(state, options.seconds)
                had = found.setdefault(f"POST in the loop, {state}", ([], 0, []))
                found[f"POST in the loop, {state}"] = (had[0] + taken, had[1] + missed, [])
    heads = ["what, server", "calls", "p50 µs", "p99 µs", "p99.9 µs", "max µs"]
    heads += ["ticks missed", "offered", "sent", "dropped", "waiting"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for name, (taken, missed, stats_of) in sorted(found.items()):
        print(row(name, taken, missed, stats_of[-1] if stats_of else None))
        for stats in stats_of:
            assert stats.offered == stats.sent + stats.dropped + stats.unconfirmed + stats.waiting, stats


if __name__ == "__main__":
    main()
