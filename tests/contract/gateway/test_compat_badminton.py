"""The badminton page's own Convex client against this system: its upload, its analysis, a reload, a lost connection."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit.auth.api_keys import AuthSettings
from kit.bus.lease import Lease
from kit.settings import NatsSettings, S3Settings
from modal_workers.badminton.spec import WORKLOAD
from services.dispatcher.app import LEASE_NAME
from services.gateway.compat.badminton import application
from tests.harness import badminton_job
from tests.harness.clients.convex_page import ConvexError, ConvexPage, convex_page
from tests.harness.servers.embedded import free_port, wait_until_ready
from tests.harness.servers.gateway import RunningGateway, keys_file, video
from tests.harness.servers.gateway_process import environment, process
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORKERS = frozenset(WORKLOAD.requires)
CORNERS = {"top_left": [10, 10], "top_right": [50, 10], "bottom_right": [60, 40], "bottom_left": [5, 40.5]}


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, str]]:
    async with served_gateway(*servers, tmp_path, backends=WORKERS) as (running, address):
        yield running, f"{address}/badminton"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "rally.mp4"
    path.write_bytes(video())
    return path


async def created(page: ConvexPage, clip: Path, mode: str = "full") -> str:
    """Upload a clip as the page does, and create its video."""
    sent = await page.upload(await page.mutation("generateUploadUrl"), clip)
    assert sent["status"] == 200, sent
    storage_id = sent["body"]["storageId"]
    new = {"storageId": storage_id, "filename": "rally.mp4", "size": clip.stat().st_size, "analysisMode": mode}
    video_id = await page.mutation("createVideo", **new)
    assert await page.mutation("createVideo", **new) == video_id
    return str(video_id)


async def jobs(running: RunningGateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await running.http.get("/v1/jobs", params={"workload": "badminton"})).json()["data"]
    return found


async def test_the_page_uploads_follows_its_analysis_and_reloads(
    served: tuple[RunningGateway, str], clip: Path
) -> None:
    running, base = served
    async with convex_page(base) as page, httpx.AsyncClient() as http:
        video_id = await created(page, clip, "rally_only")
        await page.follow("getVideo", videoId=video_id)
        await page.follow("getProcessingLogs", videoId=video_id)
        row = await page.until("getVideo", lambda row: row["status"] == "uploaded")
        assert (row["filename"], row["size"], row["analysisMode"]) == ("rally.mp4", clip.stat().st_size, "rally_only")
        assert (await http.get(row["videoUrl"])).content == clip.read_bytes()
        saved = await page.mutation("setManualCourtKeypoints", videoId=video_id, keypoints=CORNERS)
        assert saved == {"success": True, "keypoints": CORNERS}

        assert await page.action("processVideo", videoId=video_id) is None
        await page.until("getVideo", lambda row: row["status"] == "processing" and row["progress"] == 0)
        (job,) = await jobs(running)
        assert job["params"]["mode"] == "rally_only"
        assert job["params"]["court_keypoints"] == CORNERS
        late = await page.mutation(
            "setManualCourtKeypoints", videoId=video_id, keypoints=CORNERS | {"net_left": [7, 8]}
        )
        assert "does not use them" in late["message"]

        run_id = await running.start_job(job["id"])
        await badminton_job.report_progress(running, job["id"], run_id)
        row = await page.until("getVideo", lambda row: row.get("currentFrame") == 45)
        assert (row["progress"], row["totalFrames"], row["resultsUrl"]) == (37, 90, None)
        await badminton_job.succeed(running, job["id"], run_id, video_id)
        row = await page.until("getVideo", lambda row: row["status"] == "completed")
        assert row["progress"] == 100
        assert row["resultsMeta"]["total_frames"] == 90
        assert row["videoUrl"] == page.seen["getVideo"][0]["videoUrl"], "a new URL would load the video again"
        assert (await http.get(row["resultsUrl"])).json()["video_id"] == video_id
        assert (await http.get(row["processedVideoUrl"])).content == b"not a video"
        log = await page.until("getProcessingLogs", lambda log: "Results ready" in log[-1]["message"])
    told = [(one["message"], one["level"], one["category"]) for one in log]
    assert told[0] == ('Video "rally.mp4" uploaded successfully', "success", "processing")
    assert ("Manual court keypoints saved", "info", "court") in told
    assert ("Find the court and the camera's cuts: done in 1.2 s", "success", "court") in told
    assert told[-3:-1] == [
        ("The camera shakes.", "warning", "processing"),
        ("No players: nobody moves", "warning", "detection"),
    ]
    times = [one["timestamp"] for one in log]
    assert times == sorted(times)
    async with convex_page(base) as page:  # reloaded
        assert await page.action("processVideo", videoId=video_id) is None
        await page.follow("getVideo", videoId=video_id)
        assert (await page.until("getVideo", bool))["status"] == "completed"
    assert [one["id"] for one in await jobs(running)] == [job["id"]], "a reload bills nothing"


async def analysed(running: RunningGateway, base: str, clip: Path) -> str:
    """Upload a clip and finish its analysis, with plain requests where they suffice."""
    async with httpx.AsyncClient() as http:
        sent = await http.post(f"{base}/api/storage/upload?token=t", content=clip.read_bytes())
        video_id = str(sent.json()["storageId"])
    job = await running.submitted(video_id, workload="badminton", inputs={"video": video_id})
    run_id = await running.start_job(job["id"])
    await badminton_job.succeed(running, job["id"], run_id, video_id)
    return video_id


async def test_the_routes_pass_on_what_the_worker_wrote(served: tuple[RunningGateway, str], clip: Path) -> None:
    running, base = served
    video_id = await analysed(running, base, clip)
    files = badminton_job.files(video_id)
    async with httpx.AsyncClient(base_url=base, params={"videoId": video_id}) as http:
        for route, name in (("zone-analytics", "zones"), ("speed", "speed"), ("heatmap", "heatmap")):
            answer = await http.get(f"/api/{route}")
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.content == files[f"compat/{name}.json"][0]
        small = (await http.get("/api/heatmap", params={"width": 32, "height": 2, "player_id": "0"})).json()
        assert (len(small["combined_heatmap"]), len(small["combined_heatmap"][0])) == (2, 32)
        assert small["combined_heatmap"] == small["player_heatmaps"]["0"]
        url = (await http.get("/api/video-url")).json()["url"]
        assert httpx.get(url, headers={"Range": "bytes=0-3"}).content == clip.read_bytes()[:4]
        config = {"players": [{"positions": [[0.125, 0.25]] * 200_000}]}
        pdf = (await http.post("/api/export/pdf", json={"videoId": video_id, "config": config}, params={})).json()
        assert (pdf["success"], pdf["size"], pdf["filename"][-4:]) == (True, len(badminton_job.PDF), ".pdf")
        assert base64.b64decode(pdf["pdfBase64"], validate=True) == badminton_job.PDF
        health = (await http.get("/health")).json()
        assert (health["status"], health["backend"]) == ("healthy", "convex")
        assert health["components"]["modal_inference"] == "configured"
        assert health["stats"]["videos_by_status"]["completed"] == health["stats"]["total_videos"] >= 1
        assert (await http.get("/api/court-keypoints/manual/status")).json() == {
            "has_manual_keypoints": False, "keypoints": None,
        }  # fmt: skip
        body = {"videoId": video_id, "keypoints": CORNERS}
        saved = (await http.post("/api/court-keypoints/manual/set", json=body)).json()
        assert (saved["status"], saved["keypoints"]) == ("success", CORNERS)
        assert (await http.get("/api/court-keypoints/manual/status")).json()["keypoints"] == CORNERS


async def test_what_is_wrong_is_said_as_the_page_reads_it(served: tuple[RunningGateway, str], clip: Path) -> None:
    _, base = served
    unknown = "upl_0198c0de-0000-7000-8000-000000000000"
    async with httpx.AsyncClient(base_url=base, headers={"Origin": "http://localhost:5173"}) as http:

        async def told(method: str, path: str, **more: Any) -> tuple[int, str]:
            answer = await http.request(method, path, **more)
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
            return answer.status_code, answer.json()["error"]

        assert await told("GET", "/api/speed") == (400, "Missing videoId")
        assert await told("GET", f"/api/speed?videoId={unknown}") == (404, "Video not found")
        assert await told("GET", "/api/video-url?videoId=k57d") == (404, "Video not found")
        assert (await told("GET", "/api/nothing"))[0] == 404
        assert (await told("GET", "/api/export/pdf"))[0] == 405
        for body in (b"[]", b"{", b"{}", b'{"videoId": 5}', b'{"videoId": ""}', b"[" * 100_000, b"\xff"):
            assert (await told("POST", "/api/export/pdf", content=body))[0] == 400
        assert (await told("POST", "/api/court-keypoints/manual/set", content=b" " * 300_000))[0] == 413
        sent = await http.post("/api/storage/upload", content=clip.read_bytes())
        video_id = sent.json()["storageId"]
        assert (await told("GET", f"/api/speed?videoId={video_id}"))[0] == 404
        assert (await told("GET", f"/api/heatmap?videoId={video_id}&width=0"))[0] == 400
        crooked = {"videoId": video_id, "keypoints": {**CORNERS, "net_left": [1, None]}}
        assert (await told("POST", "/api/court-keypoints/manual/set", json=crooked))[0] == 400

        upload = "/api/storage/upload?token=x"
        assert (await told("POST", upload, content=b"no video at all"))[0] == 400
        assert (await told("POST", upload, content=b"{}", headers={"Content-Type": "application/json"}))[0] == 415
        assert (await told("POST", upload, content=b""))[0] == 400
        preflight = await http.options("/api/export/pdf", headers={"Access-Control-Request-Method": "POST"})
        assert (preflight.status_code, preflight.headers["access-control-allow-headers"]) == (204, "Content-Type")
        assert preflight.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"


async def test_slow_requests_for_a_report_do_not_keep_others_waiting(
    served: tuple[RunningGateway, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "_PDF_REQUEST_S", 0.5)
    _, base = served
    address = httpx.URL(base)
    head = f"POST /badminton/api/export/pdf HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: 20\r\n\r\n{{"
    slow = [await asyncio.open_connection(address.host, address.port) for _ in range(2)]
    try:
        for _, writer in slow:
            writer.write(head.encode())
            await writer.drain()
        async with httpx.AsyncClient(base_url=base, timeout=8) as http:
            await http.get("/health")  # by then both are being received
            assert (await http.post("/api/export/pdf", json={"videoId": "k57d"})).json()["error"] == "Video not found"
        for reader, _ in slow:
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    finally:
        for _, writer in slow:
            writer.close()


async def test_a_repeated_upload_is_stored_once(served: tuple[RunningGateway, str], clip: Path) -> None:
    running, base = served
    uploads_before = (await running.types()).count("upload.created")
    async with httpx.AsyncClient(base_url=base) as http:
        first, again = [await http.post("/api/storage/upload?token=same", content=clip.read_bytes()) for _ in range(2)]
        assert first.json() == again.json()
        other = await http.post("/api/storage/upload?token=same", content=video(frames=9))
        assert other.json()["storageId"] != first.json()["storageId"], "another file"
    assert (await running.types()).count("upload.created") == uploads_before + 2


async def test_what_functions_refuse_and_what_cannot_be_submitted_is_shown(
    servers: Servers, tmp_path: Path, clip: Path
) -> None:
    async with (
        served_gateway(*servers, tmp_path) as (running, address),
        convex_page(f"{address}/badminton") as page,
        httpx.AsyncClient(base_url=f"{address}/badminton") as http,
    ):
        video_id = await created(page, clip)
        await page.follow("getVideo", videoId=video_id)
        dispatcher = Lease(running.store.client, LEASE_NAME, 30.0, {"backends": ["torch"]})
        await dispatcher.acquire()
        with pytest.raises(ConvexError, match="the workers do not have"):
            await page.action("processVideo", videoId=video_id)
        row = await page.until("getVideo", lambda row: row["status"] == "failed")
        assert "the workers do not have" in row["error"], "the page shows nothing else"
        assert (await http.get("/health")).json()["components"]["modal_inference"] == "not configured"
        await dispatcher.release()
        with pytest.raises(ConvexError, match="Video not found"):
            await page.action("processVideo", videoId="gone")
        assert await page.mutation("deleteVideo", videoId=video_id) is None
        await page.until("getVideo", lambda row: row is None)
        with pytest.raises(ConvexError, match="workers report by events"):
            await page.mutation("updateStatus", videoId=video_id, status="completed")
        await page.follow("getSecrets")
        assert "There is no query" in await page.until("getSecrets", bool)


async def test_a_gateway_that_is_replaced_goes_unnoticed(servers: Servers, tmp_path: Path, clip: Path) -> None:
    """The client reconnects by itself; what was acknowledged before is there, and no second job is submitted."""
    async with served_gateway(*servers, tmp_path / "a", backends=WORKERS) as (running, address):
        port = int(address.rpartition(":")[2])
        page_context = convex_page(f"{address}/badminton")
        page = await page_context.__aenter__()
        video_id = await created(page, clip)
        await page.mutation("setManualCourtKeypoints", videoId=video_id, keypoints=CORNERS)
        await page.follow("getVideo", videoId=video_id)
        await page.action("processVideo", videoId=video_id)
        (job,) = [one for one in await jobs(running) if one["params"]["video_id"] == video_id]
    try:
        # Sent while nobody listens: the client sends it again.
        late = asyncio.ensure_future(page.mutation("setManualCourtKeypoints", videoId=video_id, keypoints=CORNERS))
        async with served_gateway(*servers, tmp_path / "b", port=port, backends=WORKERS) as (running, _):
            assert (await late)["success"]
            await page.action("processVideo", videoId=video_id)
            run_id = await running.start_job(job["id"])
            await badminton_job.succeed(running, job["id"], run_id, video_id)
            row = await page.until("getVideo", lambda row: row["status"] == "completed")
            assert row["manualCourtKeypoints"] == CORNERS
            same = [one for one in await jobs(running) if one["params"]["video_id"] == video_id]
            assert [one["id"] for one in same] == [job["id"]]
    finally:
        await page_context.__aexit__(None, None, None)


async def test_with_api_keys_the_key_is_part_of_the_url(
    servers: Servers, tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "one", "two", "guest", read_only=("guest",)))
    async with served_gateway(*servers, tmp_path, auth=auth, backends=WORKERS) as (_, address):
        base = f"{address}/badminton/k"
        async with convex_page(f"{base}/one.secret") as page:
            url = await page.mutation("generateUploadUrl")
            assert url.startswith(f"{base}/one.secret/api/storage/upload?")
            video_id = await created(page, clip)
        async with httpx.AsyncClient(headers={"Origin": "https://page.example"}) as http:
            for key, status in (("one.secret", 200), ("two.secret", 404), ("guest.secret", 404), ("one.wrong", 401)):
                answer = await http.get(f"{base}/{key}/api/video-url?videoId={video_id}")
                assert answer.status_code == status, key
                assert answer.headers["access-control-allow-origin"] == "*"
            assert (await http.get(f"{address}/badminton/health")).status_code == 401
            assert (await http.post(f"{base}/guest.secret/api/storage/upload", content=b"x")).status_code == 403
        async with convex_page(f"{base}/guest.secret") as page:
            with pytest.raises(ConvexError, match="no scope"):
                await page.mutation("generateUploadUrl")
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"{address}/metrics")).text
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert not [text for text in [*ours, metrics] if "secret" in text]
    assert '"/badminton/api/video-url"' in metrics


async def test_a_killed_gateway_loses_nothing_that_it_acknowledged(
    servers: Servers, tmp_path: Path, clip: Path
) -> None:
    """Kill it after each answer, and while an analysis is submitted; the client reconnects by itself."""
    port = free_port()
    env = environment(servers, tmp_path, port, GATEWAY_BACKENDS=",".join(WORKERS), B2_PREFIX="")

    async def replaced(started: ExitStack) -> None:
        started.close()
        started.enter_context(process(env))
        await asyncio.to_thread(wait_until_ready, port)

    with ExitStack() as started:
        await replaced(started)
        async with convex_page(f"http://127.0.0.1:{port}/badminton") as page:
            sent = await page.upload(await page.mutation("generateUploadUrl"), clip)
            storage_id = sent["body"]["storageId"]
            await replaced(started)
            new = {"storageId": storage_id, "filename": "rally.mp4", "size": 5, "analysisMode": "rally_only"}
            video_id = await page.mutation("createVideo", **new)
            await page.mutation("setManualCourtKeypoints", videoId=video_id, keypoints=CORNERS)
            submitting = asyncio.ensure_future(page.action("processVideo", videoId=video_id))
            await asyncio.sleep(random.uniform(0, 0.03))
            await replaced(started)
            await asyncio.gather(submitting, return_exceptions=True)
            await page.action("processVideo", videoId=video_id)
            await page.follow("getVideo", videoId=video_id)
            row = await page.until("getVideo", lambda row: row["status"] == "processing")
            assert (row["filename"], row["manualCourtKeypoints"]) == ("rally.mp4", CORNERS)
            answer = httpx.get(f"http://127.0.0.1:{port}/v1/jobs", params={"workload": "badminton"})
            same = [one for one in answer.json()["data"] if one["params"]["video_id"] == video_id]
            assert [one["params"]["court_keypoints"] for one in same] == [CORNERS]
            assert same[0]["params"]["mode"] == "rally_only"
