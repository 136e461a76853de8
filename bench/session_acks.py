"""Time from sending a frame over a session's WebSocket to its acknowledgement, while other processes compute.

    python -m bench.session_acks --seconds 30

Gateway and nats-server are processes of their own; no worker runs. One client sends pictures of a camera at a steady
rate, as a browser does, with ``?acks=1``. Beside it, nothing computes, or two processes multiply matrices without a
pause, as inference on two cores does. The last row is a flood of 120 pictures a second, of which the gateway drops
half; memory is the gateway's resident set at the first and the last acknowledgement.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.needs import needs

needs("nats-server", "rclone", "saccade_robot")

import aiohttp
import numpy as np
import psutil
from PIL import Image

from bench.session_load import MB, SPAWN, servers

RATE_HZ, FLOOD_HZ = 30.0, 120.0
PROCESSES = 2


def compute(ends: multiprocessing.synchronize.Event) -> None:
    """Multiply matrices until told to end."""
    matrix = np.random.default_rng(0).random((512, 512), np.float32)
    while not ends.is_set():
        matrix = matrix @ matrix
        matrix /= np.linalg.norm(matrix)


@contextmanager
def computing(count: int) -> Iterator[None]:
    """Run processes that compute."""
    ends = SPAWN.Event()
    processes = [SPAWN.Process(target=compute, args=(ends,), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        ends.set()
        for process in processes:
            process.join(10)


def picture() -> bytes:
    """Return a JPEG of 640 x 480 with noise: about 60 kB."""
    pixels = np.random.default_rng(0).integers(90, 160, (480, 640, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60)
    return file.getvalue()


@dataclass
class Measured:
    """Acknowledgements of one run."""

    delays_ms: list[float] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)


async def send(url: str, rate_hz: float, seconds: float, gateway: psutil.Process) -> Measured:
    """Send pictures at a rate, and check that each is acknowledged once, in order."""
    body, count, measured, sent_s = picture(), round(rate_hz * seconds), Measured(), dict[int, float]()
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{url}/v1/sessions", json={"workload": "described"}) as answer:
            session_id = (await answer.json())["id"]
        async with http.ws_connect(f"{url}/v1/sessions/{session_id}/stream?acks=1") as socket:

            async def receive() -> None:
                for number in range(count):
                    while (message := json.loads(await socket.receive_str()))["type"] != "ack":
                        pass
                    assert message["seq"] == number
                    measured.delays_ms.append(1000 * (time.perf_counter() - sent_s[number]))
                    measured.statuses.append(message["status"])
                    if number % 100 == 0:
                        measured.rss_bytes.append(gateway.memory_info().rss)

            receiving = asyncio.ensure_future(receive())
            begun_s = time.perf_counter()
            for number in range(count):
                await asyncio.sleep(max(0.0, begun_s + number / rate_hz - time.perf_counter()))
                header = json.dumps({"seq": number, "captured_at_s": time.time()}).encode()
                sent_s[number] = time.perf_counter()
                await socket.send_bytes(len(header).to_bytes(4) + header + body)
            async with asyncio.timeout(60):
                await receiving
    return measured


def row(what: str, measured: Measured) -> str:
    """Return a row of the table."""
    p50, p99, highest = np.percentile(measured.delays_ms, [50, 99, 100])
    memory = f"{measured.rss_bytes[0] / MB:.0f}, {measured.rss_bytes[-1] / MB:.0f}"
    dropped = measured.statuses.count("dropped")
    return (
        f"| {what} | {len(measured.delays_ms):,} | {dropped:,} | {p50:.1f} | {p99:.1f} | {highest:.1f} | {memory} "
        f"| {os.getloadavg()[0]:.1f} |"
    )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row")
    options = parser.parse_args()
    heads = ["beside it", "frames", "dropped", "p50 ms", "p99 ms", "most ms", "gateway MB first, last", "load"]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    runs = (("nothing", 0, RATE_HZ), ("two processes compute", PROCESSES, RATE_HZ), ("120 a second", 0, FLOOD_HZ))
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (url, _, process_ids):
        gateway = psutil.Process(process_ids["gateway"])
        for what, count, rate_hz in runs:
            with computing(count):
                print(row(what, asyncio.run(send(url, rate_hz, options.seconds, gateway))), flush=True)


if __name__ == "__main__":
    main()
