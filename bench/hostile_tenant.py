"""Nine tenants beside a tenth that is at every quota at once: what it costs them to submit, by SSE and by webhook.

    python -m bench.hostile_tenant --seconds 20 --rounds 3

A real nats-server and bucket; gateway, notifier and the hostile client are processes of their own. Each of the nine
tenants submits jobs at a steady rate, follows its events and has a webhook endpoint. The hostile tenant does not wait
when it is refused: lists, uploads, jobs with new Idempotency-Keys, sessions, webhook endpoints that never answer, and
event streams up to the quota, each of which gets all its events. No dispatcher runs. Every round has servers of its
own, first without the hostile tenant, then with it. With ``--client-nice 15`` the hostile client uses only the CPU time
that the servers and the others leave, as if it ran on a machine of its own: on two cores its own work would otherwise
be taken for that of the servers. On a busy machine run all of it with real-time priority (``chrt -r 5``), which the
client then gives up: below real-time tasks that leave nothing, Linux stops these for 50 ms in each second. A negative
``--client-nice`` gives the client what they leave before all other work of the machine.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone")

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from aiohttp import web

from bench.load.client_upload import uploaded
from contracts.ids import new_id
from kit.imports import collect_seldom
from kit.tasks import end
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.gateway_process import environment as gateway_environment
from tests.harness.servers.gateway_process import process
from tests.harness.streams.notifier import NotifierProcess
from tests.harness.webhooks.delivery import environment as notifier_environment

HOSTILE = "hostile"
TENANTS = [f"tenant{number}" for number in range(9)]
SPAWN = multiprocessing.get_context("spawn")
#: Places that the hostile client keeps asking for, and connections for each kind of request.
_STREAMS, _CONNECTIONS, _ENDPOINTS, _SESSIONS = 1050, 4, 110, 210
_DEADLINE = aiohttp.ClientTimeout(total=30)


@dataclass
class Latencies:
    """Latencies of the nine tenants, in milliseconds."""

    submit_ms: list[float] = field(default_factory=list)
    sse_ms: list[float] = field(default_factory=list)
    webhook_ms: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Addresses:
    """Addresses of the services."""

    gateway: str
    notifier: str


def _credentials(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant}.secret"}


def _age_ms(envelope: dict[str, Any]) -> float:
    """Return the time since an event was made; all processes share this machine's clock."""
    return (time.time() - datetime.fromisoformat(envelope["time"]).timestamp()) * 1000


def _job(upload_id: str) -> dict[str, Any]:
    return {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": [upload_id]}}


class QuietTenant:
    """One of the nine: it submits, follows and receives."""

    def __init__(self, name: str, addresses: Addresses, found: Latencies) -> None:
        self._name, self._addresses, self._found = name, addresses, found

    async def run(self, receiver: str, per_s: float, measured: asyncio.Event, ready: asyncio.Barrier) -> None:
        """Submit ``per_s`` jobs a second; latencies count while ``measured`` is set."""
        async with aiohttp.ClientSession(headers=_credentials(self._name), timeout=_DEADLINE) as client:
            upload_id = await uploaded(client, self._addresses.gateway)
            hook = {"url": f"{receiver}/{self._name}", "types": ["job.submitted"]}
            async with client.post(f"{self._addresses.notifier}/v1/webhooks", json=hook) as answer:
                assert answer.status == 201, await answer.text()
            following = asyncio.ensure_future(self._follow(client, measured))
            await ready.wait()
            try:
                begun = time.monotonic()
                for number in range(1_000_000):
                    await asyncio.sleep(max(0.0, begun + number / per_s - time.monotonic()))
                    await self._submit(client, upload_id, measured)
            finally:
                following.cancel()

    async def _submit(self, client: aiohttp.ClientSession, upload_id: str, measured: asyncio.Event) -> None:
        begun = time.perf_counter()
        headers = {"Idempotency-Key": new_id("evt")}
        async with client.post(f"{self._addresses.gateway}/v1/jobs", json=_job(upload_id), headers=headers) as answer:
            await answer.read()
        if answer.status != 202:
            self._found.refused[f"submit {answer.status}"] += 1
        elif measured.is_set():
            self._found.submit_ms.append((time.perf_counter() - begun) * 1000)

    async def _follow(self, client: aiohttp.ClientSession, measured: asyncio.Event) -> None:
        url = f"{self._addresses.notifier}/v1/events?types=job.submitted"
        async with client.get(url, timeout=aiohttp.ClientTimeout(total=None)) as stream:
            async for line in stream.content:
                if line.startswith(b"data: ") and measured.is_set():
                    self._found.sse_ms.append(_age_ms(json.loads(line[6:])))


@contextlib.asynccontextmanager
async def _receiver(found: Latencies, measured: asyncio.Event) -> Any:
    """Serve the nine tenants' webhook endpoint, and one that never answers; give their addresses."""

    async def on_webhook(request: web.Request) -> web.Response:
        envelope = await request.json()
        if measured.is_set():
            found.webhook_ms.append(_age_ms(envelope))
        return web.Response()

    application = web.Application()
    application.router.add_post("/{tenant}", on_webhook)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        await runner.cleanup()


class HostileTenant:
    """Asks for everything at once, and does not wait when it is refused."""

    def __init__(self, client: aiohttp.ClientSession, addresses: Addresses, dead_port: int) -> None:
        self._client, self._addresses, self._dead_port = client, addresses, dead_port
        self.answers: Counter[str] = Counter()

    async def run(self) -> None:
        """Send requests until cancelled."""
        upload_id = await uploaded(self._client, self._addresses.gateway)
        gateway, notifier = self._addresses.gateway, self._addresses.notifier
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CONNECTIONS):
                tasks.create_task(self._repeat("list", "GET", f"{gateway}/v1/jobs?limit=200&q=lap", lambda: None))
                tasks.create_task(self._repeat("upload", "POST", f"{gateway}/v1/uploads", self._upload))
                tasks.create_task(self._repeat("job", "POST", f"{gateway}/v1/jobs", lambda: _job(upload_id)))
                tasks.create_task(self._streams(_STREAMS // _CONNECTIONS, number))
            tasks.create_task(self._repeat("session", "POST", f"{gateway}/v1/sessions", self._session, _SESSIONS))
            tasks.create_task(self._repeat("webhook", "POST", f"{notifier}/v1/webhooks", self._endpoint, _ENDPOINTS))

    def _upload(self) -> dict[str, Any]:
        return {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 10**9, "metadata": {"a": "x" * 400}}

    def _session(self) -> dict[str, Any]:
        return {"workload": "live_splat"}

    def _endpoint(self) -> dict[str, Any]:
        return {"url": f"http://{HOST}:{self._dead_port}/{new_id('evt')}"}

    async def _repeat(
        self, noun: str, method: str, url: str, body: Callable[[], Any], times: int = 10**9
    ) -> None:  # fmt: skip
        for _ in range(times):
            headers = {"Idempotency-Key": new_id("evt")} if method == "POST" else {}
            await self._count(noun, self._ask(method, url, body(), headers))

    async def _ask(self, method: str, url: str, body: Any, headers: dict[str, str]) -> str:
        async with self._client.request(method, url, json=body, headers=headers) as answer:
            found = await answer.read()
            return str(answer.status) if answer.status < 400 else str(json.loads(found).get("code"))

    async def _count(self, noun: str, asked: Awaitable[str]) -> None:
        try:
            self.answers[f"{noun} {await asked}"] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.answers[f"{noun} {type(error).__name__}"] += 1
            await asyncio.sleep(0.01)

    async def _streams(self, count: int, seed: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(self._stream())
                if number % 10 == seed:
                    await asyncio.sleep(0.02)

    async def _stream(self) -> None:
        while True:
            try:
                async with self._client.get(
                    f"{self._addresses.notifier}/v1/events", timeout=aiohttp.ClientTimeout(total=None)
                ) as stream:
                    self.answers[f"stream {stream.status}"] += 1
                    async for _ in stream.content.iter_any():
                        pass
            except aiohttp.ClientError as error:
                self.answers[f"stream {type(error).__name__}"] += 1
            await asyncio.sleep(1)


async def _be_hostile(addresses: Addresses, answers: Any, seconds: float) -> None:
    """Send requests for ``seconds``, then the counts of their answers."""

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await reader.read()

    server = await asyncio.start_server(hang, HOST, 0)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=_credentials(HOSTILE), connector=connector, timeout=_DEADLINE) as client:
        tenant = HostileTenant(client, addresses, server.sockets[0].getsockname()[1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await tenant.run()
        answers.send(dict(tenant.answers))


def _hostile_process(addresses: Addresses, answers: Any, seconds: float, nice: int) -> None:
    if nice:  # whatever priority the servers have
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.nice(nice)
    asyncio.run(_be_hostile(addresses, answers, seconds))


def _percentile(values: list[float], share: float) -> float:
    return round(sorted(values)[int(len(values) * share)], 1) if values else float("nan")


def summary(found: Latencies) -> dict[str, Any]:
    """Return p50 and p99 of each latency, and how many there were."""
    kinds = {"submit": found.submit_ms, "sse": found.sse_ms, "webhook": found.webhook_ms}
    return {
        kind: {"count": len(values), "p50_ms": _percentile(values, 0.5), "p99_ms": _percentile(values, 0.99)}
        for kind, values in kinds.items()
    } | {"refused": dict(found.refused)}


async def measure(addresses: Addresses, pids: list[int], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure without the hostile tenant, then with it."""
    collect_seldom()  # pauses of this process would count as the servers'
    found, measured, lines, seconds = Latencies(), asyncio.Event(), [], arguments.seconds
    async with _receiver(found, measured) as receiver:
        ready = asyncio.Barrier(len(TENANTS) + 1)
        running = [
            asyncio.ensure_future(QuietTenant(name, addresses, found).run(receiver, arguments.rate, measured, ready))
            for name in TENANTS
        ]
        await ready.wait()
        await asyncio.sleep(2)
        for hostile in (False, True):
            own, other = SPAWN.Pipe()
            attack = SPAWN.Process(
                target=_hostile_process, args=(addresses, other, seconds + 8, arguments.client_nice), daemon=True
            )
            if hostile:
                attack.start()
                await asyncio.sleep(6)
            begun, cpu_s = time.monotonic(), _cpu_s(pids)
            measured.set()
            await asyncio.sleep(seconds)
            measured.clear()
            used = [
                round(100 * (now - before) / (time.monotonic() - begun))
                for now, before in zip(_cpu_s(pids), cpu_s, strict=True)
            ]
            line = {"hostile": hostile} | summary(found) | {"cpu_percent": used}
            if hostile:
                line["answers"] = dict(sorted((await asyncio.to_thread(own.recv)).items()))
                attack.join(10)
            lines.append(line)
            for values in (found.submit_ms, found.sse_ms, found.webhook_ms):
                values.clear()
        await end(*running)
    return lines


def _cpu_s(pids: list[int]) -> list[float]:
    return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]


def _round(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        for part in ("nats", "s3", "gateway"):
            (folder / part).mkdir()
        keys = {"SACCADE_API_KEYS_FILE": str(keys_file(folder, HOSTILE, *TENANTS))}
        with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
            port = free_port()
            env = gateway_environment((nats.settings, s3.settings), folder / "gateway", port, **keys)
            with (
                process(env) as gateway,
                NotifierProcess(nats.settings, **notifier_environment(), **keys) as notifier,
            ):
                wait_until_ready(port, None)
                assert notifier.process
                addresses = Addresses(f"http://{HOST}:{port}", notifier.url)
                pids = [gateway.pid, notifier.process.pid]
                return asyncio.run(measure(addresses, pids, arguments))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=2.0, help="jobs a second of each of the nine tenants")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client-nice", type=int, default=0, help="priority of the hostile client")
    arguments = parser.parse_args()
    for number in range(arguments.rounds):
        for line in _round(arguments):
            print(json.dumps({"round": number, "load": round(os.getloadavg()[0], 1)} | line), flush=True)


if __name__ == "__main__":
    main()
