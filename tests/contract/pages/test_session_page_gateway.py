"""The page of a live session in Chromium over the real gateway, bus and bucket; only the worker is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.events.job import Cost, JobSucceeded
from contracts.manifest import Artifact, Manifest
from contracts.session import job_id_of_session
from contracts.telemetry import FRAME_CAPTURED, FRAME_CLOCK_OFFSET, FRAME_SOURCE, JointBatch
from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from modal_workers.live_splat.kinematics import SO101
from services.notifier.streams import ticket_routes as tickets
from tests.harness.clients.session_page_browser import WEBCAM, SessionTab, session_tab
from tests.harness.clients.session_page_splat import BLUE, GREEN, RED, Ball, scene
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway
from tests.harness.sessions.scripted_session_worker import ScriptedSessionWorker, run_scripted_worker
from tests.harness.vision.so101_reference import link_poses

pytestmark = pytest.mark.anyio

#: What the session leaves, as the page lists it.
FILES = "model.ply,chunk_0001.ply"
_BYTES = "application/octet-stream"

Servers = tuple[NatsSettings, S3Settings]


@asynccontextmanager
async def on_a_port(running: RunningGateway) -> AsyncIterator[str]:
    stop, port = asyncio.Event(), free_port()
    app = running.app
    # The notifier's, which stands behind the same origin.
    app.include_router(tickets.router)
    app.state.tickets = running.app.state.session_streams.tickets
    keyed = running.authenticated
    server = asyncio.ensure_future(serve(app, HOST, port, authenticated=keyed, stop=stop))
    try:
        yield f"http://{HOST}:{port}"
    finally:
        stop.set()
        await server


async def opened(running: RunningGateway) -> str:
    answer = await running.http.post("/v1/sessions", json={"workload": "streamed", "max_cost_usd": 2})
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


async def test_a_session_is_followed_from_its_worker_to_its_end(session_servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*session_servers, tmp_path) as running, on_a_port(running) as origin:
        session_id = await opened(running)
        async with (
            run_scripted_worker(running, session_id) as worker,
            session_tab(origin, session_id, *WEBCAM) as page,
        ):
            await page.until_text("state", "Waiting for a worker")
            await worker.claim()
            await page.until_text("state", "Ready for frames")
            await _check_webcam(page, worker)
            await _check_model(page, running, worker)
            await _check_joints(page, running, session_id)
            await worker.export()
            await page.until("document.querySelectorAll('#chunks a').length", 1)
            await _check_end(page, running, worker)
            assert page.complaints() == []
            page.check_alone()
        async with session_tab(origin, session_id) as page:
            await page.until_text("state", "Stopped: as requested")
            await page.until("[...document.querySelectorAll('#chunks a')].map(a => a.textContent).join()", FILES)
            await page.until("document.getElementById('overlay').innerText", "")
            await page.until_text("link", "session ended")


async def _check_webcam(page: SessionTab, worker: ScriptedSessionWorker) -> None:
    await page.until("document.getElementById('webcam').disabled", False)
    await page.click("#webcam")
    await worker.heard(frames=3)
    headers = worker.frames[-1].headers or {}
    assert headers[FRAME_SOURCE] == "webcam"
    assert abs(float(headers[FRAME_CLOCK_OFFSET])) < 0.5, "both clocks are this machine's"
    assert float(headers[FRAME_CAPTURED]) > 1.7e9
    assert worker.frames[-1].data.startswith(b"\xff\xd8")
    await page.click("#webcam")
    await page.until_text("webcam", "Use the webcam")
    await page.until_text("state", "Running")
    await page.until("document.getElementById('accepted').innerText", str(worker.totals.accepted))
    assert await page.text("sent") == await page.text("accepted")


async def _check_model(page: SessionTab, running: RunningGateway, worker: ScriptedSessionWorker) -> None:
    """A small model is shown whole, of a large one its most important splats."""
    folder = running.bucket.key("results", job_id_of_session(worker.session_id))
    await running.bucket.put(f"{folder}/live.ply", scene(), _BYTES)
    await worker.progress(version=1, splats=1956, psnr_db=21.5)
    await page.until_text("psnr", "21.5 dB")
    await _until_seen(page, RED)
    turned = Ball(RED.centre, BLUE.colour)
    await running.bucket.put(f"{folder}/live.ply", scene(balls=(turned, GREEN)), _BYTES)
    await worker.progress(version=2, splats=60_000, psnr_db=21.5)
    await _until_seen(page, turned)


async def _until_seen(page: SessionTab, ball: Ball) -> None:
    colour = (0, 0, 0)
    for _ in range(100):
        (colour,) = await page.colours_at([ball.centre])
        if max(abs(got - 255 * wanted) for got, wanted in zip(colour, ball.colour, strict=True)) < 30:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"where the ball should be, it is {colour}; {page.complaints()}")


async def _check_joints(page: SessionTab, running: RunningGateway, session_id: str) -> None:
    angles = dict.fromkeys(SO101.joint_names, 0.3)
    samples = [[1, 1.7e9, list(angles.values())]]
    batch = JointBatch.model_validate({"names": list(angles), "unit": "rad", "samples": samples})
    answer = await running.http.post(f"/v1/sessions/{session_id}/joints", content=batch.model_dump_json())
    assert answer.status_code == 202, answer.text
    tip = link_poses(angles)["gripper_frame_link"][:3, 3].tolist()
    place = "s.arm.place('gripper_frame_link')"
    scene = "import(document.querySelector('script[type=module]').src).then(page => page.scene)"
    await page.until(f"{scene}.then(s => Math.hypot(...{place}.map((v, i) => v - {tip}[i])) < 1e-5)")


async def _check_end(page: SessionTab, running: RunningGateway, worker: ScriptedSessionWorker) -> None:
    await page.click("#stop")
    await page.until("document.getElementById('confirm').open")
    await page.click("#confirm-yes")
    await page.until_text("state", "Stopping")
    await _succeed(running, worker)
    await page.until_text("state", "Stopped: as requested")
    await page.until_text("link", "session ended")
    await page.until("[...document.querySelectorAll('#chunks a')].map(a => a.textContent).join()", FILES)
    place = await page.tab.evaluate("document.querySelector('#chunks a').href")
    answer = await running.http.get(place.removeprefix(page.origin), follow_redirects=False)
    assert answer.status_code == 307, answer.text


async def _succeed(running: RunningGateway, worker: ScriptedSessionWorker) -> None:
    """End the job as a worker does, with a manifest of the chunk and the whole model."""
    job_id = job_id_of_session(worker.session_id)
    files = []
    for name in FILES.split(","):
        sent = await running.bucket.put(running.bucket.key("results", job_id, name), scene(), _BYTES)
        files.append(Artifact(name=name, key=sent.key, bytes=sent.bytes, sha256=sent.sha256, media_type=_BYTES))
    job = await running.job(job_id)
    result = {"reason": "asked", "chunks": 1, "totals": worker.totals.model_dump()}
    manifest = Manifest(
        job_id=job_id, tenant="local", workload=job.submitted.workload, workload_version=job.submitted.workload_version,
        attempt=1, run_id=worker.run_id, created_at=datetime.now(UTC), duration_s=2.0, device="cpu", result=result,
        artifacts=files,
    )  # fmt: skip
    key = running.bucket.key("results", job_id, "manifest.json")
    await running.bucket.put(key, manifest.model_dump_json().encode(), "application/json")
    cost = Cost(device="cpu", seconds=2.0, usd=0.5)
    data = JobSucceeded(
        attempt=1, run_id=worker.run_id, result=result, manifest_key=key, duration_s=2.0, cost=cost
    )  # fmt: skip
    await running.say(job_id, data)


async def test_with_keys_the_page_gets_a_ticket_and_follows(session_servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "lab"))
    async with running_gateway(*session_servers, tmp_path, auth=auth) as running, on_a_port(running) as origin:
        running.http.headers["Authorization"] = "Bearer lab.secret"
        session_id = await opened(running)
        async with (
            run_scripted_worker(running, session_id, "lab") as worker,
            session_tab(origin, session_id) as page,
        ):
            await page.until("document.getElementById('key').hidden", False)
            await page.click("#key-value")
            await page.tab.send("Input.insertText", text="lab.secret")
            await page.click("#key button")
            await page.until_text("link", "live")
            await worker.claim()
            await page.until_text("state", "Ready for frames")
            await worker.progress(psnr_db=17.25, version=1)
            await page.until_text("psnr", "17.3 dB")
            page.check_alone()
            assert [url for url in page.requests() if "lab.secret" in url] == []
