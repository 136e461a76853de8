"""CPU time that traces and metrics cost a gateway: on and off, alternately in one run.

Gateways on one bus and bucket get blocks of ``POST /v1/jobs`` in turn: one without traces, one that records a tenth of
them, one that records all, both exporting to a collector of this process. Their CPU time is the kernel's. What
counting requests for the metrics costs is measured in this process, with and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.needs import needs

needs("nats-server", "psutil", "prometheus_client", "opentelemetry")

import httpx
import psutil

from kit.http.traced_requests import TracedRequests
from kit.settings import as_environment, inherited_environment
from services.gateway.metrics import GatewayMetrics, RequestCounter
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.tracing.collector import Collector

#: After a block, until its spans are exported and its events folded.
_SETTLE_S = 2.5
_ASKED = {"workload": "scripted", "inputs": {}, "params": {"script": []}}


class Gateway:
    """A gateway in a process of its own."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        own = {"GATEWAY_PORT": str(port), "GATEWAY_DATA_DIR": str(folder / name), "WORKER_CATALOG": "tests.workers"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], env=environment | own, stderr=subprocess.DEVNULL
        )
        wait_until_ready(port, self._process)
        self._usage = psutil.Process(self._process.pid)
        self.cpu_ms: list[float] = []

    def block(self, client: httpx.Client, requests: int) -> None:
        """Send requests, one after the other, and note the CPU time of each."""
        before = self._used_s()
        for _ in range(requests):
            client.post(f"{self.url}/v1/jobs", json=_ASKED).raise_for_status()
        time.sleep(_SETTLE_S)
        self.cpu_ms.append((self._used_s() - before) * 1000 / requests)

    def _used_s(self) -> float:
        times = self._usage.cpu_times()
        return times.user + times.system

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(30)


def gateways(rounds: int, requests: int) -> None:
    """Print the CPU time of a request for each way."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("nats", "s3"):
            (folder / name).mkdir()
        nats = stack.enter_context(EmbeddedNats(folder / "nats"))
        s3 = stack.enter_context(EmbeddedS3(folder / "s3"))
        collector = stack.enter_context(Collector())
        environment = inherited_environment() | as_environment(nats.settings, s3.settings)
        traced = environment | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        ways = {
            "off": environment,
            "access log": environment | {"SACCADE_ACCESS_LOG": "true"},
            "a tenth": traced | {"OTEL_TRACES_SAMPLER_ARG": "0.1"},
            "all": traced,
        }
        running = []
        for name, variables in ways.items():
            running.append(gateway := Gateway(name, folder, variables))
            stack.callback(gateway.end)
        with httpx.Client(trust_env=False, timeout=60) as client:
            for number in range(rounds + 1):
                for gateway in running if number % 2 else running[::-1]:
                    gateway.block(client, requests)
        off = statistics.median(running[0].cpu_ms[1:])  # the first round warms up
        print("| traces | CPU ms a request | ratio |\n|---|---|---|")
        for gateway in running:
            median = statistics.median(gateway.cpu_ms[1:])
            print(f"| {gateway.name} | {median:.2f} | {median / off:.2f} |")
        print(f"\n{len(collector.spans)} spans were collected.")


async def middleware(calls: int) -> None:
    """Print the CPU time that the middleware adds to a request that does nothing."""

    async def nothing(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ignored(*_: Any) -> None:
        return

    metrics = GatewayMetrics()
    ways = {"nothing": nothing, "metrics": RequestCounter(nothing, lambda: metrics), "ids": TracedRequests(nothing)}
    used: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(7):
        for name, app in ways.items():
            start = time.process_time()
            for _ in range(calls):
                await app({"type": "http", "method": "GET", "path": "/v1/jobs", "headers": []}, ignored, ignored)
            used[name].append((time.process_time() - start) * 1e6 / calls)
    least = {name: min(times) for name, times in used.items()}
    print("\n| middleware | CPU µs a request |\n|---|---|")
    for name in ("metrics", "ids"):
        print(f"| {name} | {least[name] - least['nothing']:.1f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=150)
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    asyncio.run(middleware(20_000))
    gateways(given.rounds, given.requests)
