"""Latency of a joint sample to a worker's handler: through the stream, as workers read it, and by a core subscription.

A robot in a process of its own publishes a sample at 200 Hz, and says in it when; the reader takes the time in its
handler (one machine, one clock). The ways take turns of some seconds, so that other work on the machine meets all of
them alike: the stream's tail (TelemetryTail, what workers use: nothing is lost over a reconnect or a restart), a core
subscription to the same subject, and the whole way from the robot client's ``offer``, which looks every 5 ms for what
to send. Beside it: how many bytes a new version of a splat is for a viewer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from bench.needs import needs

needs("nats-server", "saccade_robot", "torch")

import torch
from nats.aio.client import Client
from nats.aio.msg import Msg
from saccade_robot import NatsTarget, Scale, Streamer, Target

from contracts.session import telemetry_subject
from kit.bus.connection import connect, declare
from kit.settings import NatsSettings
from modal_workers.gaussians.ply import encode_ply
from modal_workers.gaussians.ply_prefix import prefix
from modal_workers.gaussians.splats import Splats
from modal_workers.runtime.sessions.telemetry_source import DirectTelemetrySource
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage, TelemetryTail
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.sessions.robot_server import NAMES, SESSION, pose

RATE_HZ = 200.0
JOINTS = telemetry_subject("local", SESSION, "joints")
WAYS = ("core subscription", "the worker's tail", "offer to the tail")
SPLATS = (1_000, 8_000, 50_000, 200_000)
PREVIEW = 50_000
#: A splat in a .splat file (github.com/antimatter15/splat), whatever is in it.
SPLAT_BYTES = 32


def publish(settings: NatsSettings, pipe: Connection) -> None:
    """Be the robot until told to end: each turn is by a client of NATS, or by the robot client."""
    while (turn := pipe.recv()) is not None:
        way, seconds = turn
        if way == "offer to the tail":
            _offer(settings.url, seconds)
        else:
            asyncio.run(_publish(settings, seconds))
        pipe.send("done")


async def _publish(settings: NatsSettings, seconds: float) -> None:
    client = await connect(settings, "robot")
    begun_s = time.monotonic()
    for tick in range(round(seconds * RATE_HZ)):
        await asyncio.sleep(max(0.0, begun_s + tick / RATE_HZ - time.monotonic()))
        samples = [[tick, time.time(), pose(tick)]]
        body = {"source": "arm", "names": NAMES, "unit": "rad", "samples": samples}
        await client.publish(JOINTS, json.dumps(body).encode())
        # Else nats-py writes when its own turn comes.
        await client._flush_pending()  # noqa: SLF001 - flush() would wait for the server's answer
    await client.flush()
    await client.close()


def _offer(url: str, seconds: float) -> None:
    target = Target(nats=NatsTarget(url, JOINTS, telemetry_subject("local", SESSION, "frames")))
    with Streamer(target, names=NAMES, scales=[Scale(1.0)] * len(NAMES)) as streamer:
        while streamer.stats().route is None:
            time.sleep(0.01)
        begun_s = time.monotonic()
        for tick in range(round(seconds * RATE_HZ)):
            time.sleep(max(0.0, begun_s + tick / RATE_HZ - time.monotonic()))
            streamer.offer(pose(tick), time.time())


async def turn(client: Client, way: str, seconds: float, pipe: Connection) -> list[float]:
    """Measure one turn and return the latency of each sample in milliseconds."""
    taken: list[float] = []

    def on_body(body: bytes) -> None:
        now_s = time.time()
        taken.extend(1e3 * (now_s - sample[1]) for sample in json.loads(body)["samples"])

    stop = await (_by_core(client, on_body) if way == WAYS[0] else _by_tail(client, on_body))
    pipe.send((way, seconds))
    await asyncio.to_thread(pipe.recv)
    end_s = time.monotonic() + 10
    while len(taken) < round(seconds * RATE_HZ) and time.monotonic() < end_s:
        await asyncio.sleep(0.05)
    await stop()
    assert len(taken) == round(seconds * RATE_HZ), f"{way}: {len(taken)} came"
    # The first are late by what it takes to connect.
    return taken[round(RATE_HZ / 2) :]


async def _by_core(client: Client, on_body: Callable[[bytes], None]) -> Callable[[], object]:
    async def on_message(msg: Msg) -> None:
        on_body(msg.data)

    subscription = await client.subscribe(JOINTS, cb=on_message)
    await client.flush()
    return subscription.unsubscribe


async def _by_tail(client: Client, on_body: Callable[[bytes], None]) -> Callable[[], object]:
    found = await client.jetstream().stream_info("TELEMETRY")

    def on_recorded(recorded: TelemetryMessage) -> None:
        on_body(recorded.body)

    tail = TelemetryTail(DirectTelemetrySource(client, telemetry_subject("local", SESSION, "*")), on_recorded)
    task = asyncio.ensure_future(tail.run(found.state.last_seq))
    await asyncio.sleep(0.5)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return stop


async def latencies(seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return the latencies of each variant in milliseconds, over all its turns."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, EmbeddedNats(Path(folder)) as nats:
        client = await connect(nats.settings, "reader")
        await declare(client)
        ours, theirs = spawn.Pipe()
        robot = spawn.Process(target=publish, args=(nats.settings, theirs), daemon=True)
        robot.start()
        for number in range(rounds):
            for place in range(len(WAYS)):
                way = WAYS[(number + place) % len(WAYS)]
                found[way] += await turn(client, way, seconds, ours)
        ours.send(None)
        robot.join()
        await client.close()
    return found


def show_latencies(found: dict[str, list[float]]) -> None:
    """Print the percentiles, and their ratios to the core subscription."""
    print("| variant | samples | p50 ms | p99 ms | max ms | p50 to core | p99 to core |")
    print("|---|---|---|---|---|---|---|")
    core = sorted(found[WAYS[0]])
    for way, taken in found.items():
        ordered = sorted(taken)
        p50, p99 = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
        by50, by99 = (core[int(share * (len(core) - 1))] for share in (0.5, 0.99))
        print(
            f"| {way} | {len(taken):,} | {p50:.2f} | {p99:.2f} | {ordered[-1]:.1f} "
            f"| {p50 / by50:.2f} | {p99 / by99:.2f} |"
        )


def scene(count: int) -> Splats:
    """Return random Gaussians: like trained ones, no value is a round number."""
    dice = torch.Generator().manual_seed(count)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=dice)

    return Splats(draw(count, 3), draw(count, 3) - 5, draw(count, 4), draw(count), draw(count, 3))


def show_sizes() -> None:
    """Print the bytes of a version: whole, cut for a preview, and in the smaller format."""
    print("| splats | PLY kB | bytes a splat | preview kB | .splat kB | encode ms |")
    print("|---|---|---|---|---|---|")
    for count in SPLATS:
        splats = scene(count)
        importance = splats.logit_opacities
        began = time.perf_counter()
        whole = encode_ply(splats, importance=importance).data
        took_ms = 1e3 * (time.perf_counter() - began)
        preview = prefix(whole, PREVIEW)
        print(
            f"| {count:,} | {len(whole) / 1e3:,.0f} | {len(whole) / count:.1f} | {len(preview) / 1e3:,.0f} "
            f"| {SPLAT_BYTES * count / 1e3:,.0f} | {took_ms:.1f} |"
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    show_latencies(asyncio.run(latencies(options.seconds, options.rounds)))
    print(f"load of the machine: {os.getloadavg()[0]:.1f}\n")
    show_sizes()


if __name__ == "__main__":
    main()
