"""A video of a Convex site whose worker, dispatcher, notifier and site are killed in mid-run: one run, one bill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import decode
from contracts.events.job import JobInterrupted, JobStarted, JobSucceeded
from tests.harness.callbacks.convex_site import ConvexSite
from tests.harness.network.file_servers import answer, file_server, sending
from tests.harness.servers.embedded import free_port
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.system.chaos import ENDS, ROOT, System, running

pytestmark = pytest.mark.anyio

VIDEO_ID = "k57killed"
PATIENCE_S = 240.0
#: In a process of its own: this one loads no OpenCV.
RENDER = """
import sys
from pathlib import Path
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import render_match
render_match(Path(sys.argv[1]), MatchOptions(duration_s=3.0, width_px=480, height_px=270, rate_hz=15.0))
"""


async def _until(happened: Any, what: str) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not await happened():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"it did not happen: {what}")


async def _kill(system: System, victim: str) -> None:
    async def killed() -> bool:
        found = False
        for pid in system.process_ids(victim):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                found = True
        return found

    await _until(killed, f"{victim} is killed")


async def _events(system: System, job_id: str) -> list[Any]:
    return [decode(stored.body).parsed() for stored in await system.history(job_id)]


async def test_one_run_one_bill_one_completed_whatever_is_killed(tmp_path: Path) -> None:
    clip = tmp_path / "match.mp4"
    command = [sys.executable, "-c", RENDER, str(clip)]
    await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True, timeout=PATIENCE_S)
    served = sending(answer(clip.read_bytes(), "Content-Type: video/mp4"))
    site = ConvexSite(free_port())
    with running(tmp_path, GATEWAY_URL_ALLOWED_NETWORKS="127.0.0.1") as system:
        async with file_server(served) as files, httpx.AsyncClient(base_url=system.url, verify=NO_CERTIFICATES) as http:
            body = {"videoId": VIDEO_ID, "videoUrl": files.url("/match.mp4"), "callbackUrl": site.url}
            async with site.serving():
                answered = await http.post("/badminton-endpoint/process", json=body)
                assert answered.status_code == 200, answered.text

                async def runs() -> list[str]:
                    jobs = (await http.get("/v1/jobs")).json()["data"]
                    found = await _events(system, jobs[0]["id"]) if jobs else []
                    return [data.run_id for data in found if isinstance(data, JobStarted)]

                async def first_run() -> bool:
                    return len(await runs()) == 1

                async def second_run() -> bool:
                    return len(await runs()) == 2

                await _until(first_run, "a worker starts")
                await _kill(system, "worker")
                await _until(second_run, "another worker goes on")
                await _kill(system, "services.dispatcher")
                assert (await http.post("/badminton-endpoint", json=body)).status_code == 200, (
                    "the page is loaded again"
                )
            (job,) = (await http.get("/v1/jobs")).json()["data"]

            async def succeeded() -> bool:
                return any(isinstance(data, JobSucceeded) for data in await _events(system, job["id"]))

            await _until(succeeded, "the job succeeds while the site is down")
            await _kill(system, "services.notifier")
            async with site.serving():
                await site.until(lambda: site.status(VIDEO_ID) == "completed", PATIENCE_S)
                await _kill(system, "services.notifier")
                await asyncio.sleep(3.0)
            assert len((await http.get("/v1/jobs")).json()["data"]) == 1
        history = await system.history(job["id"])
    assert site.completed == 1
    results = json.loads(site.storage[site.videos[VIDEO_ID]["resultsStorageId"]][1])
    assert (results["video_id"], results["total_frames"]) == (VIDEO_ID, 45)
    assert site.storage[site.videos[VIDEO_ID]["processedVideoStorageId"]][1][4:8] == b"ftyp"
    envelopes = [decode(stored.body) for stored in history]
    assert sum(envelope.type in ENDS for envelope in envelopes) == 1
    bills = [data.run_id for data in (envelope.parsed() for envelope in envelopes) if _is_billed(data)]
    assert len(bills) == len(set(bills)), "each attempt is billed once"


def _is_billed(data: Any) -> bool:
    return isinstance(data, JobSucceeded | JobInterrupted) and data.cost is not None
