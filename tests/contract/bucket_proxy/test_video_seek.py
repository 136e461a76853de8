"""A browser seeks in a large artifact: the way of every page, by the gateway's redirect to the bucket."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.harness.clients.chromium import chromium, pages
from tests.harness.clients.video_seek import seek
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import running_gateway
from tests.harness.servers.proxied_bucket import proxied
from tests.harness.vision.large_video import write_large_video

pytestmark = pytest.mark.anyio


async def test_chromium_seeks_in_an_artifact_of_60_megabytes(tmp_path: Path) -> None:
    for name in ("nats", "s3"):
        (tmp_path / name).mkdir()
    video = tmp_path / "large.mp4"
    write_large_video(video, 60_000_000)
    with EmbeddedNats(tmp_path / "nats") as nats, EmbeddedS3(tmp_path / "s3") as server, proxied(server) as s3:
        async with running_gateway(nats.settings, s3.settings, tmp_path) as running:
            job = await running.submitted(await running.uploaded())
            run_id = await running.start_job(job["id"])
            artifact = await running.leave(job["id"], run_id, "overlay.mp4", video.read_bytes(), "video/mp4")
            route = f"/v1/jobs/{job['id']}/artifacts/{artifact.name}"

            head = await running.http.head(route)
            async with httpx.AsyncClient(trust_env=False) as client:
                followed = await client.head(head.headers["location"])
            assert (head.status_code, followed.status_code) == (307, 200)
            assert followed.headers["content-length"] == str(artifact.bytes)
            assert (followed.headers["accept-ranges"], followed.headers["content-type"]) == ("bytes", "video/mp4")

            presigned = (await running.http.get(route)).headers["location"]
            async with chromium(tmp_path / "chromium") as browser, pages({}) as origin:
                tab = await browser.open(origin)
                # Against the S3 server itself no seek is complete after 15 s (docs/adr/0014).
                for share in (0.9, 0.1):
                    await seek(tab, presigned, share=share, timeout_s=10)
