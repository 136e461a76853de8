"""The badminton page's own Convex client against this system: its upload, its analysis, a reload, a lost connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit.settings import NatsSettings, S3Settings
from tests.harness import badminton_job
from tests.harness.clients.convex_page import ConvexPage, convex_page
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, video
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORKERS = frozenset({"av", "cv2", "numpy"})
CORNERS = {"top_left": [10, 10], "top_right": [50, 10], "bottom_right": [60, 40], "bottom_left": [5, 40.5]}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats, EmbeddedS3(tmp_path_factory.mktemp("s3")) as s3:
        yield nats.settings, s3.settings


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
