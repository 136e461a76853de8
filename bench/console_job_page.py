"""Benchmark of the console's page of one job with very many events, in Chromium over an embedded system.

    python -m bench.console_job_page --events 20000

The job's history (attempts that start, complete stages and are interrupted) is published as services do it, while the
dispatcher is stopped, so that no worker runs. Then the page is opened: how long until the timeline is drawn with all
events, which tasks of the page took longer than 50 ms, how long a step of the slider takes, and the size of the heap.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "chromium")

import argparse
import asyncio
import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from contracts.errors import ErrorBody
from contracts.events.base import EventData, encode
from contracts.events.job import (
    Cost,
    JobInterrupted,
    JobRetrying,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
)
from contracts.ids import new_id
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.system.embedded import SystemProcess, up

_OBSERVE = """
(() => {
    if (window.tasks) return void window.tasks.splice(0);
    window.tasks = [];
    new PerformanceObserver(list => list.getEntries().forEach(one => window.tasks.push(Math.round(one.duration))))
        .observe({type: "longtask", buffered: false});
})()
"""
_WAIT = """
new Promise(done => {
    const look = () => document.querySelector(".chart svg") && document.querySelector(".slider input").max === "%d"
        ? done(performance.now() - window.began) : setTimeout(look, 5);
    look();
})
"""


def history(count: int) -> list[tuple[EventData, datetime]]:
    """Return about so many events of a job with their times: an hour in all, and an idle gap of two."""
    begin = datetime.now(UTC) - timedelta(hours=4)
    cost = Cost(device="L4", seconds=0.7, usd=0.0002)
    submitted = JobSubmitted(
        workload="scripted", workload_version="1", inputs={}, params={}, deadline=begin + timedelta(hours=9)
    )
    events: list[EventData] = [submitted]
    failure = ErrorBody(code="worker_lost", message="The worker was lost.", hint="Nothing.")
    runs = max(1, count // 6)
    for attempt in range(1, runs + 1):
        run_id = new_id("run")
        part: dict[str, Any] = {"attempt": attempt, "run_id": run_id}
        device = "L4" if attempt % 3 else "A100-40GB"
        events += [
            JobStarting(**part, executor="modal", device=device, rung=int(attempt % 3 == 0)),
            JobStarted(**part, device=device, worker="w"),
            JobStageCompleted(**part, stage="first", duration_s=0.2),
            JobStageCompleted(**part, stage="second", duration_s=0.2),
        ]
        if attempt < runs:
            retry = {"attempt": attempt + 1, "after": "lost", "delay_s": 0.1}
            later = begin + timedelta(hours=8)
            events += [
                JobInterrupted(**part, failure="lost", error=failure, cost=cost),
                JobRetrying.model_validate(retry | {"not_before": later, "deadline": later}),
            ]
        else:
            events.append(JobSucceeded(**part, result={}, manifest_key="", duration_s=1, cost=cost))
    step = timedelta(hours=1) / len(events)
    gap = timedelta(hours=2)
    return [
        (event, begin + step * index + (gap if index > len(events) // 2 else timedelta()))
        for index, event in enumerate(events)
    ]


async def publish(system: SystemProcess, job_id: str, count: int) -> int:
    """Publish the history; return the number of events."""
    secrets = json.loads((system.data / "secrets.json").read_text())
    port = json.loads((system.data / "ports.json").read_text())["nats-server"]
    password = SecretStr(secrets["nats_password"])
    settings = NatsSettings(url=f"nats://127.0.0.1:{port}", user=secrets["nats_user"], password=password)
    client = await connect(settings, "bench")
    try:
        store = EventStore(client)
        found = [
            encode(event, tenant="local", subject_id=job_id, source="/bench", time=time)
            for event, time in history(count)
        ]
        for message in found:
            await store.publish(message)
        return len(found)
    finally:
        await client.close()


async def cpu_s(tab: ConsoleTab) -> float:
    """Return the CPU time of the page's tasks so far: the time on the clock says more about what else runs."""
    found = await tab.page.tab.send("Performance.getMetrics")
    return float(next(metric["value"] for metric in found["metrics"] if metric["name"] == "TaskDuration"))


async def measure(tab: ConsoleTab, job_id: str, count: int) -> dict[str, Any]:
    """Open the page and return what it took."""
    await tab.until("document.querySelector('main h1')?.innerText", "Keys")
    # The page's module is loaded before, as it is when a reader comes from the list.
    await tab.go("console/jobs")
    await tab.until("document.querySelector('main h1')?.innerText", "Jobs")
    await tab.evaluate(_OBSERVE)
    await tab.page.tab.send("Performance.enable", timeDomain="threadTicks")
    before_s = await cpu_s(tab)
    await tab.evaluate("window.began = performance.now()")
    await tab.go(f"console/jobs/{job_id}")
    drawn_ms = await tab.evaluate(_WAIT % count)
    await asyncio.sleep(1)
    opened = await tab.evaluate("window.tasks.splice(0)")
    opening_s = await cpu_s(tab) - before_s
    steps = """
    (async () => {
        const taken = [];
        for (let number = 0; number < 30; number += 1) {
            const began = performance.now();
            document.querySelector('.slider button').click();
            await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            taken.push(performance.now() - began);
        }
        return taken.sort((a, b) => a - b);
    })()
    """
    taken = await tab.evaluate(steps)
    await asyncio.sleep(1)
    tasks = await tab.evaluate("window.tasks")
    # What is kept, not what is not collected yet.
    await tab.page.tab.send("HeapProfiler.collectGarbage")
    return {
        "events": count,
        "drawn_ms": round(drawn_ms),
        "opening_cpu_ms": round(opening_s * 1e3),
        "long_tasks_opening_ms": opened,
        "step_median_ms": round(taken[len(taken) // 2], 1),
        "step_worst_ms": round(taken[-1], 1),
        "long_tasks_stepping_ms": tasks,
        "elements_in_chart": await tab.evaluate("document.querySelectorAll('.chart *').length"),
        "rows_in_log": await tab.evaluate("document.querySelectorAll('a.event').length"),
        "heap_mb": round(await tab.evaluate("performance.memory.usedJSHeapSize") / 1e6, 1),
        "load": os.getloadavg()[0],
    }


async def run(events: int) -> None:
    """Run the system and print what the page took."""
    with tempfile.TemporaryDirectory() as folder, up(Path(folder) / "data", WORKER_CATALOG="tests.workers") as system:
        origin = str(system.ready()["url"])
        children = psutil.Process(system.process.pid).children()
        dispatchers = [child for child in children if "services.dispatcher" in child.cmdline()]
        for dispatcher in dispatchers:
            dispatcher.suspend()
        try:
            job_id = new_id("job")
            count = await publish(system, job_id, events)
            async with console_tab(origin, "/console/keys", Path(folder)) as tab:
                await tab.until(f"fetch('/v1/jobs/{job_id}').then(a => a.json()).then(job => job.state)", "succeeded")
                for _ in range(3):
                    print(json.dumps(await measure(tab, job_id, count)))
                    await tab.go("console/keys")
                    await asyncio.sleep(2)
                    await tab.page.tab.send("HeapProfiler.collectGarbage")
                    left_mb = await tab.evaluate("performance.memory.usedJSHeapSize") / 1e6
                    print(json.dumps({"heap_left_mb": round(left_mb, 1)}))
        finally:
            for dispatcher in dispatchers:
                dispatcher.resume()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=20_000)
    asyncio.run(run(parser.parse_args().events))
