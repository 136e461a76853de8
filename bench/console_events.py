"""The console's page of events in Chromium at a steady rate: tasks of more than 50 ms, its heap, rows in the document.

    python -m bench.console_events --rate 1000 --seconds 90

A server of this script sends the events, so that only the page is measured; two tabs share its one stream.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from bench.needs import needs

needs("chromium")

from aiohttp import web

from contracts.ids import new_id
from services.gateway.console.routes import console
from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.servers.embedded import HOST, free_port

_TYPES = ("job.submitted", "job.queued", "job.started", "job.stage_completed", "job.artifact_ready", "job.succeeded")
_WATCH = """
window.longTasks = [];
new PerformanceObserver(list => longTasks.push(...list.getEntries().map(task => task.duration)))
  .observe({ type: "longtask" });
0
"""


class EventServer:
    """Serves the console and one endless stream of events; ``opened`` counts the streams."""

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self.opened = self.open = self.sent = 0

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application()
        app.router.add_get("/v1/events", self.stream)
        app.router.add_get("/v1/browser-session", _session)
        app.router.add_get("/asyncapi.json", _reference)
        app.router.add_get("/console-files/{digest}/{name:.*}", _file)
        app.router.add_get("/{path:.*}", _page)
        return app

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send events evenly, from now on; a read of the past gets none."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.opened += 1
        if request.query.get("since") == "3600":
            await response.write(b":\n")
            await asyncio.sleep(3600)
        self.open += 1
        try:
            began = time.perf_counter()
            for count in itertools.count(1):
                due_s = count / 50 - (time.perf_counter() - began)
                await asyncio.sleep(max(0.0, due_s))
                await response.write(b"".join(self._event() for _ in range(round(self.rate_per_s / 50))))
        except ConnectionError:
            pass
        finally:
            self.open -= 1
        return response

    def _event(self) -> bytes:
        self.sent += 1
        kind = _TYPES[self.sent % len(_TYPES)]
        data = {"workload": "lap_compare", "attempt": 1, "run_id": new_id("run"), "text": "x" * 300}
        envelope = {
            "specversion": "1.0",
            "id": new_id("evt"),
            "source": "/bench",
            "type": kind,
            "subject": new_id("job"),
            "time": datetime.now(UTC).isoformat(),
            "tenant": "local",
            "data": data,
        }
        return f"event: {kind}\ndata: {json.dumps(envelope)}\nid: 0123456789abcdef.{self.sent}\n\n".encode()


async def _session(_: web.Request) -> web.Response:
    return web.json_response(
        {"tenant": "local", "scopes": ["read"], "key_id": None, "logged_in": True, "can_log_in": True}
    )


async def _reference(_: web.Request) -> web.Response:
    return web.json_response({"channels": {}, "operations": {}})


async def _file(request: web.Request) -> web.Response:
    file = console("/").files[request.match_info["name"]]
    return web.Response(body=file.body, headers={"Content-Type": file.media_type})


async def _page(_: web.Request) -> web.Response:
    page = console("/").pages["page.html"]
    return web.Response(body=page.body, headers={"Content-Type": page.media_type})


async def _heap_mb(tab: ConsoleTab) -> float:
    await tab.page.tab.send("HeapProfiler.collectGarbage")
    used = await tab.page.tab.send("Runtime.getHeapUsage")
    return float(used["usedSize"]) / 1e6


async def _measure(origin: str, server: EventServer, seconds: float, folder: Path) -> None:
    async with console_tab(origin, "/console/events", folder) as tab:
        follower = await tab.open_tab("/console/events")
        for each in (tab, follower):
            await each.evaluate(_WATCH)
        # The ring is full before the first measurement, so that what grows after it grows without bound.
        while server.sent < 25_000:
            await asyncio.sleep(0.2)
        print()
        began = time.perf_counter()
        for each in (tab, follower):
            await each.evaluate("longTasks.length = 0")
        for at in range(4):
            while time.perf_counter() - began < at * seconds / 3:
                await asyncio.sleep(0.1)
            tasks = [await each.evaluate("[longTasks.length, Math.max(0, ...longTasks)]") for each in (tab, follower)]
            rows = await tab.evaluate("document.querySelectorAll('.event-row').length")
            heaps = [await _heap_mb(each) for each in (tab, follower)]
            count, longest = sum(found[0] for found in tasks), max(found[1] for found in tasks)
            print(
                f"{time.perf_counter() - began:6.0f} {server.sent:9d} {server.open:8d} {heaps[0]:8.1f} {heaps[1]:12.1f}"
                f" {rows:5d} {count:11d} {longest:11.0f}"
            )


async def main(rate_per_s: float, seconds: float) -> None:
    """Serve and measure."""
    server = EventServer(rate_per_s)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, HOST, port).start()
    print(f"{rate_per_s:.0f} events a second for {seconds:.0f} s, two tabs; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        await _measure(f"http://{HOST}:{port}", server, seconds, Path(folder))
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    given = parser.parse_args()
    asyncio.run(main(given.rate, given.seconds))
