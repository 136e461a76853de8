"""Benchmark of the notifier, alone and through the embedded origin, against nginx with nchan and a plain Node server.

    python -m bench.sse_peers --clients 100 1000 5000 --rounds 3

``origin`` is ``saccade up``: clients connect where users do, and the CPU of its own process is added to the notifier's.
Every round starts each server again, in another order. The notifier uses a real nats-server and each event is published
through JetStream; the peers keep events in memory and get them over HTTP. All get the same bytes, and one C program
holds the streams. CPU is the time that the kernel accounts to the server's processes; nats-server's is shown
separately. A peer that is not installed is skipped with a message.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.needs import needs

needs("nats-server", "cc")

import aiohttp
import psutil
from pydantic import SecretStr

from bench.sse.load import OTHER_CORES, Load, ProcessTree, Publish, compiled_loader, publish_evenly
from contracts.events.base import Message
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port, wait_for_port
from tests.harness.streams.notifier import NotifierProcess
from tests.system.embedded import up

WARM_UP = 5
NGINX_CONF = """
load_module {module};
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    server {{
        listen {host}:{port} backlog=2048;
        location = /publish {{ nchan_publisher; nchan_channel_id bench; }}
        location = /events {{
            nchan_subscriber eventsource;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"""


@dataclass
class Server:
    """A running server under measurement."""

    port: int
    path: str
    tree: ProcessTree
    publish: Publish
    #: The server that it depends on, whose CPU time is shown separately.
    backend: ProcessTree | None = None


@dataclass
class Figures:
    """Results of one server in one round."""

    missing: int
    cpu_us: float
    backend_us: float
    p50_ms: float
    p99_ms: float
    kb_per_client: float


@contextlib.asynccontextmanager
async def notifier() -> AsyncIterator[Server]:
    """Run nats-server and the notifier."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedNats(Path(folder)) as nats,
        NotifierProcess(nats.settings, NOTIFIER_LOG_LEVEL="WARNING") as running,
    ):
        client = await connect(nats.settings, "bench")
        await declare(client)
        assert running.process
        bus = next(process for process in psutil.process_iter(["cmdline"]) if folder in str(process.info["cmdline"]))
        path = "/v1/events?types=job.stage_completed"
        tree, backend = ProcessTree(running.process.pid), ProcessTree(bus.pid, cores=OTHER_CORES)
        yield Server(running.port, path, tree, EventStore(client).publish, backend)
        await client.close()


@contextlib.asynccontextmanager
async def origin() -> AsyncIterator[Server]:
    """Run ``saccade up``; clients connect to its one address."""
    with tempfile.TemporaryDirectory() as folder, up(Path(folder) / "data") as system:
        ready = await asyncio.to_thread(system.ready)
        data, processes = Path(folder) / "data", ready["processes"]
        secrets = json.loads((data / "secrets.json").read_text())
        port = json.loads((data / "ports.json").read_text())["nats-server"]
        client = await connect(
            NatsSettings(
                url=f"nats://{HOST}:{port}", user=secrets["nats_user"], password=SecretStr(secrets["nats_password"])
            ),
            "bench",
        )
        tree = ProcessTree(system.process.pid, processes["notifier"], children=False)
        backend = ProcessTree(processes["nats-server"], cores=OTHER_CORES)
        path = "/v1/events?types=job.stage_completed"
        yield Server(int(ready["url"].rpartition(":")[2]), path, tree, EventStore(client).publish, backend)
        await client.close()


@contextlib.asynccontextmanager
async def _published_over_http(command: list[str], port: int) -> AsyncIterator[Server]:
    process = subprocess.Popen(command)
    try:
        wait_for_port(port, process)
        await asyncio.sleep(0.3)  # children have started
        async with aiohttp.ClientSession() as session:

            async def publish(message: Message) -> None:
                async with session.post(f"http://{HOST}:{port}/publish", data=message.body) as answer:
                    await answer.read()

            yield Server(port, "/events", ProcessTree(process.pid), publish)
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def node() -> AsyncIterator[Server]:
    """Run the plain Node server."""
    port = free_port()
    script = str(Path(__file__).parent / "sse" / "node.js")
    async with _published_over_http([shutil.which("node") or "node", script, str(port)], port) as server:
        yield server


@dataclass
class Nchan:
    """Nginx with nchan, as Debian installs it."""

    nginx: str
    module: str

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[Server]:
        """Run nginx with one worker process."""
        port = free_port()
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "nginx.conf"
            config.write_text(NGINX_CONF.format(module=self.module, folder=folder, host=HOST, port=port))
            async with _published_over_http([self.nginx, "-p", folder, "-c", str(config)], port) as server:
                yield server


def find_nchan() -> Nchan | None:
    """Return nginx and nchan as Debian's packages install them; None when they are missing."""
    nginx, module = shutil.which("nginx"), Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
    return Nchan(nginx, str(module)) if nginx and module.exists() else None


async def measure(server: Server, program: str, clients: int, rate_hz: float, count: int) -> Figures:
    """Measure memory per idle client, then CPU per delivery and latency of ``count`` events."""
    with Load(program, server.port, server.path, 20):  # one-time costs are not measured
        await publish_evenly(server.publish, 50, range(10))
    await asyncio.sleep(0.5)
    before_bytes = server.tree.rss_bytes()
    with Load(program, server.port, server.path, clients) as load:
        await asyncio.sleep(1.0)
        idle_bytes = server.tree.rss_bytes() - before_bytes
        await publish_evenly(server.publish, rate_hz, range(10, 10 + WARM_UP))
        await load.delivered(WARM_UP * clients)
        load.reset()
        cpu_s, backend_s = -server.tree.cpu_s(), -server.backend.cpu_s() if server.backend else 0.0
        await publish_evenly(server.publish, rate_hz, range(10 + WARM_UP, 10 + WARM_UP + count))
        counted = await load.delivered(count * clients)
        cpu_s += server.tree.cpu_s()
        backend_s += server.backend.cpu_s() if server.backend else 0.0
    return Figures(
        missing=count * clients - counted["delivered"] + counted["gaps"] + counted["repeats"],
        cpu_us=cpu_s * 1e6 / max(1, counted["delivered"]),
        backend_us=backend_s * 1e6 / max(1, counted["delivered"]),
        p50_ms=counted["p50_us"] / 1e3,
        p99_ms=counted["p99_us"] / 1e3,
        kb_per_client=idle_bytes / clients / 1e3,
    )


@dataclass
class ServerComparison:
    """All servers that are installed, and their results."""

    servers: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Server]]]
    figures: dict[tuple[int, str], list[Figures]] = field(default_factory=dict)

    async def round(self, program: str, number: int, clients: list[int], deliveries_hz: float, seconds: float) -> None:
        """Measure every server once with each number of clients."""
        for count in clients:
            names = list(self.servers)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                rate_hz = deliveries_hz / count
                events = max(8, round(rate_hz * seconds))
                async with self.servers[name]() as server:
                    figures = await measure(server, program, count, rate_hz, events)
                self.figures.setdefault((count, name), []).append(figures)
                print(json.dumps({"clients": count, "server": name, **figures.__dict__}), flush=True)

    def table(self) -> Iterator[str]:
        """Yield a table of medians; each round's CPU is also compared with nchan's of the same round."""
        yield "| clients | server | missing | CPU per delivery | to nchan | nats-server | p50 | p99 | kB per client |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for (clients, name), rounds in self.figures.items():
            cpu, backend, p50, p99, memory = (
                median(getattr(figures, name) for figures in rounds)
                for name in ("cpu_us", "backend_us", "p50_ms", "p99_ms", "kb_per_client")
            )
            of_nchan = self.figures.get((clients, "nchan"), [])
            ratios = [figures.cpu_us / nchan.cpu_us for figures, nchan in zip(rounds, of_nchan, strict=False)]
            yield (
                f"| {clients:,} | {name} | {sum(figures.missing for figures in rounds)} | {cpu:.1f} µs "
                f"| {f'{median(ratios):.2f}' if ratios else ''} | {f'{backend:.1f} µs' if backend else ''} "
                f"| {p50:.1f} ms | {p99:.1f} ms | {memory:.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--deliveries", type=float, default=8000, help="per second, over all clients")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=["notifier", "origin", "nchan", "node"],
        default=["notifier", "origin", "nchan", "node"],
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, OTHER_CORES)
    with compiled_loader() as program:
        comparison = ServerComparison({"notifier": notifier, "origin": origin})
        if nchan := find_nchan():
            comparison.servers["nchan"] = nchan
        else:
            print("nchan is skipped: apt-get install nginx libnginx-mod-nchan")
        if shutil.which("node"):
            comparison.servers["node"] = node
        else:
            print("node is skipped: it is not installed")
        comparison.servers = {name: comparison.servers[name] for name in comparison.servers if name in arguments.only}
        for number in range(arguments.rounds):
            run = comparison.round(program, number, arguments.clients, arguments.deliveries, arguments.seconds)
            asyncio.run(run)
        print("\n".join(comparison.table()))
        print(f"load of the machine: {time.strftime('%H:%M')}, {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
