"""Twenty robots of six joints at 200 Hz for some minutes: what arrives of what was offered, and what servers pay.

    python -m bench.session_load --seconds 300 --ways nats

Robots are the robot client's streamers in processes of their own, straight to NATS or by HTTP; the third way is a
WebSocket each, which sends every 20 ms what has come up since. Gateway and nats-server are processes of their own; no
worker runs, and one reader follows all joints as a worker does (TelemetryTail) and notes each number once. Memory is
the resident set, read every second. CPU is what the kernel charges the processes, in percent of one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from bench.needs import needs

needs("nats-server", "rclone", "saccade_robot")

import aiohttp
import psutil
from saccade_robot import Scale, Session, Streamer, Target, now_s, open_session

from kit.bus.connection import connect
from kit.settings import NatsSettings
from modal_workers.runtime.sessions.telemetry_source import DirectTelemetrySource
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage, TelemetryTail
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.sessions.robot_server import NAMES, pose

RATE_HZ = 200.0
SOCKET_EVERY_S = 0.02
WAYS = ("nats", "http", "websocket")
MB = 1e6
POSES = [pose(number) for number in range(1000)]
SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, EmbeddedNats, dict[str, int]]]:
    """Run bus, bucket and gateway; gives the gateway's address and process ids."""
    for name in ("nats", "s3"):
        (folder / name).mkdir()
    port = free_port()
    with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
        environment = {
            "NATS_URL": nats.url,
            "S3_ENDPOINT_URL": s3.settings.endpoint_url,
            "S3_ACCESS_KEY_ID": s3.settings.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.settings.secret_access_key.get_secret_value(),
            "GATEWAY_PORT": str(port),
            "GATEWAY_DATA_DIR": str(folder / "gateway"),
            "GATEWAY_CLIENT_NATS_URL": nats.url,
            "WORKER_CATALOG": "tests.workers,tests.session_workers",
        }
        command = [sys.executable, "-m", "services.gateway"]
        gateway = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(port, gateway, 60)
            assert nats._process is not None  # noqa: SLF001 - its process id is asked for nowhere else
            yield f"http://{HOST}:{port}", nats, {"gateway": gateway.pid, "nats-server": nats._process.pid}  # noqa: SLF001
        finally:
            gateway.terminate()
            gateway.wait(10)


# -- robots ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamedRobot:
    """One robot; its name is how the reader tells it from the others."""

    name: str
    session: Session

    def target(self, way: str) -> Target:
        """Leave one way only."""
        of = self.session.target
        return Target(nats=of.nats) if way == "nats" else Target(http=of.http)


def stream(robots: list[StreamedRobot], way: str, seconds: float, pipe: Connection) -> None:
    """Be some robots: one control loop, a streamer each; tells how many samples each offered and knows as arrived."""
    scales = [Scale(1.0)] * len(NAMES)
    streamers = [Streamer(robot.target(way), names=NAMES, scales=scales, source=robot.name) for robot in robots]
    while any(streamer.stats().route is None for streamer in streamers):
        time.sleep(0.01)
    pipe.send("ready")
    pipe.recv()
    begun_s = time.monotonic()
    for tick in range(round(seconds * RATE_HZ)):
        time.sleep(max(0.0, begun_s + tick / RATE_HZ - time.monotonic()))
        at_s = now_s()
        for streamer in streamers:
            streamer.offer(POSES[tick % 1000], at_s)
    statistics_of = [streamer.close(10.0) for streamer in streamers]
    pipe.send([(stats.offered, stats.sent, stats.dropped) for stats in statistics_of])


def stream_by_socket(robots: list[StreamedRobot], _: str, seconds: float, pipe: Connection) -> None:
    pipe.send(asyncio.run(_sockets(robots, seconds, pipe)))


async def _sockets(robots: list[StreamedRobot], seconds: float, pipe: Connection) -> list[tuple[int, int, int]]:
    async with aiohttp.ClientSession() as http:
        urls = [f"{robot.session.base_url}/v1/sessions/{robot.session.id}/stream" for robot in robots]
        sockets = [await http.ws_connect(url) for url in urls]
        pipe.send("ready")
        await asyncio.to_thread(pipe.recv)
        # A client that does not read answers no pings either, and is cut off.
        hearing = [asyncio.ensure_future(_wait_for_pong(socket)) for socket in sockets]
        begun_s = time.time()
        told = await asyncio.gather(
            *(_by_socket(robot.name, socket, begun_s, seconds) for robot, socket in zip(robots, sockets, strict=True))
        )
        # All has been taken when an answer comes to what was sent last.
        for socket in sockets:
            await socket.send_str(json.dumps({"type": "clock_ping", "sent_at_s": 1.0}))
        await asyncio.gather(*hearing)
        return told


async def _by_socket(
    name: str, socket: aiohttp.ClientWebSocketResponse, begun_s: float, seconds: float
) -> tuple[int, int, int]:
    sent, count = 0, round(seconds * RATE_HZ)
    while sent < count:
        await asyncio.sleep(SOCKET_EVERY_S)
        due = min(count, round((time.time() - begun_s) * RATE_HZ))
        samples = [[tick, begun_s + tick / RATE_HZ, POSES[tick % 1000]] for tick in range(sent, min(due, sent + 900))]
        if samples:
            said = {"type": "joints", "source": name, "names": NAMES, "unit": "rad", "samples": samples}
            await socket.send_str(json.dumps(said))
            sent += len(samples)
    return count, sent, 0


async def _wait_for_pong(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Receive messages until the reply to the last clock request."""
    async for message in socket:
        if json.loads(message.data).get("type") == "clock_pong":
            return


# -- reader ---------------------------------------------------------------------------------------------------------


def read(settings: NatsSettings, most: int, pipe: Connection) -> None:
    """Read all joints of all sessions as a worker reads those of one; send the counts of samples and duplicates."""
    pipe.send(asyncio.run(_read(settings, most, pipe)))


async def _read(settings: NatsSettings, most: int, pipe: Connection) -> tuple[int, int, int]:
    #: By robot, for each sample: never, once, more often.
    seen: dict[str, bytearray] = {}
    batches = 0

    def on_recorded(recorded: TelemetryMessage) -> None:
        nonlocal batches
        batches += 1
        batch = json.loads(recorded.body)
        marks = seen.setdefault(batch["source"], bytearray(most))
        for sample in batch["samples"]:
            marks[sample[0]] = min(2, marks[sample[0]] + 1)

    client = await connect(settings, "reader")
    tail = TelemetryTail(DirectTelemetrySource(client, "saccade.tele.local.session.*.joints"), on_recorded)
    following = asyncio.ensure_future(tail.run())
    pipe.send("ready")
    while not pipe.poll():
        await asyncio.sleep(0.2)
    before = -1
    while batches != before:
        before = batches
        await asyncio.sleep(2.0)
    following.cancel()
    await client.close()
    came = sum(len(marks) - marks.count(0) for marks in seen.values())
    return came, sum(marks.count(2) for marks in seen.values()), batches


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Reads memory every second, and what the processes were charged between two moments."""

    process_ids: dict[str, int]
    rss_bytes: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ends = threading.Event()
        self._processes = {name: psutil.Process(pid) for name, pid in self.process_ids.items()}
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ends.wait(1.0):
            for name, process in self._processes.items():
                self.rss_bytes.setdefault(name, []).append(process.memory_info().rss)

    def begin(self) -> None:
        """Start sampling."""
        self._begun_s, self._charged = time.monotonic(), self._charges()
        self._thread.start()

    def end(self) -> dict[str, float]:
        """Stop sampling and return the CPU share of each process, in percent of one core."""
        took_s = time.monotonic() - self._begun_s
        after = self._charges()
        self._ends.set()
        self._thread.join()
        return {name: 100 * (after[name] - self._charged[name]) / took_s for name in after}

    def _charges(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}

    def course(self, name: str) -> str:
        """Return the medians of the first, middle and last minute (of a short run: thirds), and the maximum, in MB."""
        read = self.rss_bytes[name]
        span = max(1, min(60, len(read) // 3))
        middle = (len(read) - span) // 2
        minutes = (read[:span], read[middle : middle + span], read[-span:])
        return " ".join(f"{value / MB:.0f}" for value in (*map(statistics.median, minutes), max(read)))

    def by_minute(self, name: str) -> str:
        """Return the median of each minute in MB, which shows unbounded growth."""
        read = self.rss_bytes[name]
        return " ".join(f"{statistics.median(read[at : at + 60]) / MB:.0f}" for at in range(0, len(read), 60))


def measure(way: str, count: int, processes: int, seconds: float) -> str:
    """Measure one protocol and return its table row."""
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (url, nats, process_ids):
        robots = [StreamedRobot(f"arm_{n}", open_session(url, workload="watching", params={})) for n in range(count)]
        shares = [robots[number::processes] for number in range(processes)]
        work = stream_by_socket if way == "websocket" else stream
        reader, reading = _start(read, nats.settings, round(seconds * RATE_HZ))
        started = [_start(work, share, way, seconds) for share in shares]
        watch = Watch(process_ids)
        watch.begin()
        for pipe, _ in started:
            pipe.send("go")
        counts = [robot for pipe, _ in started for robot in pipe.recv()]
        cpu = watch.end()
        reader.send("end")
        came, again, batches = reader.recv()
        for _, process in [(reader, reading), *started]:
            process.join(10)
    offered, sent, dropped = (sum(column) for column in zip(*counts, strict=True))
    for name in process_ids:
        print(f"{name}, {way}, MB by minute: {watch.by_minute(name)}", flush=True)
    gateway_mb, nats_mb = (watch.course(name) for name in ("gateway", "nats-server"))
    return (
        f"| {way} | {offered:,} | {sent:,} | {dropped} | {came:,} | {offered - came} | {again} | {batches:,} "
        f"| {cpu['gateway']:.0f} | {cpu['nats-server']:.0f} | {gateway_mb} | {nats_mb} | {os.getloadavg()[0]:.1f} |"
    )


def _start(work: object, *given: object) -> tuple[Connection, multiprocessing.process.BaseProcess]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(*given, theirs), daemon=True)  # type: ignore[arg-type]
    process.start()
    assert ours.recv() == "ready"
    return ours, process


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--robots", type=int, default=20)
    parser.add_argument("--processes", type=int, default=4, help="that the robots are spread over")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each way")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options = parser.parse_args()
    heads = ["way", "offered", "known as arrived", "dropped", "read", "missing", "read again", "batches"]
    heads += ["gateway CPU %", "nats CPU %", "gateway MB first, middle, last, most", "nats MB, as those", "load"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for way in options.ways:
        print(measure(way, options.robots, options.processes, options.seconds), flush=True)


if __name__ == "__main__":
    main()
