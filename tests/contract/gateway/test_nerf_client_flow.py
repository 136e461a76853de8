"""The web client of the replaced product-photo service, through a socket, on servers without and with API keys.

It submits photos, polls poses, training and frames by names that it makes of its own, and shows single frames.
"""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import Cost, JobFailed, JobStarted, JobStarting, JobSubmitted, JobSucceeded, PartOf
from contracts.ids import new_id, stage_job_id
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, picture
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Client = tuple[RunningGateway, httpx.AsyncClient, str]


@pytest.fixture
def servers(nats_server: NatsServer, s3_server: S3Server) -> tuple[NatsSettings, S3Settings]:
    return nats_server.settings, s3_server.settings


@pytest.fixture(params=["without keys", "with keys"])
async def client(
    request: pytest.FixtureRequest,
    servers: tuple[NatsSettings, S3Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Client]:
    """Yield the gateway, a client that knows its base URL only, and the tenant that it acts for."""
    auth, base, tenant = None, "", "local"
    if request.param == "with keys":
        monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps([{"system": "nerf", "word": "w", "key": "shop"}]))
        auth, base, tenant = AuthSettings(api_keys_file=keys_file(tmp_path, "shop")), "/compat/nerf/k/w", "shop"
    async with (
        served_gateway(*servers, tmp_path, auth=auth) as (running, address),
        httpx.AsyncClient(base_url=address + base) as http,
    ):
        if auth is not None:
            async with httpx.AsyncClient(base_url=address) as stranger:
                assert (await stranger.get("/api/nerf/train/status/train_shoe")).status_code == 401
        yield running, http, tenant


async def play(running: RunningGateway, tenant: str, pipeline_id: str, stage: str, shard: int = 0) -> None:
    """Publish what a stage's job publishes until it has succeeded."""
    job_id, run_id = stage_job_id(pipeline_id, stage, shard), new_id("run")
    cost = Cost(device="T4", seconds=10.0, usd=0.25)
    shards = 10 if stage == "rendering" else 1
    for data in (
        JobSubmitted(
            workload=f"nerf_{stage}",
            workload_version="1",
            inputs={},
            params={},
            deadline=datetime.now(UTC) + timedelta(hours=1),
            part_of=PartOf(job_id=pipeline_id, stage=stage, shard=shard, shards=shards),
        ),
        JobStarting(attempt=1, run_id=run_id, executor="modal", device="T4"),
        JobStarted(attempt=1, run_id=run_id, device="T4", worker="test"),
        JobSucceeded(attempt=1, run_id=run_id, result={}, manifest_key="none", duration_s=10.0, cost=cost),
    ):
        await running.say(job_id, data, tenant)


async def test_poses_training_and_frames_are_views_of_one_job(client: Client) -> None:
    running, http, tenant = client
    key = {"Authorization": f"Bearer {tenant}.secret"} if tenant != "local" else {}
    photos = [await running.uploaded(picture(), "image/png", filename=f"{n}.png", headers=key) for n in "ab"]

    async def answered(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = await http.request(method, path, json=body)
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    paths = [f"/api/uploads/{photos[0]}/a.png", photos[1]]
    began = await answered("POST", "/api/nerf/colmap", {"job_id": "shoe", "image_paths": paths})
    assert (began["status"], began["stage"], began["progress"]) == ("processing", "feature_extraction", 0)
    job_id = began["id"]
    poses = await answered("GET", f"/api/nerf/colmap/status/{began['job_id']}")
    assert (poses["status"], poses["total_images"], poses["error"], poses["output_path"]) == (
        "processing",
        2,
        None,
        None,
    )
    training = await answered("POST", "/api/nerf/train", {"colmap_job_id": began["job_id"], "config": None})
    assert (training["job_id"], training["stage"], training["progress"]) == ("train_shoe", "data_preparation", 0)
    assert training["estimated_cost"]["total_usd"] >= 0

    await play(running, tenant, job_id, "capture")
    await play(running, tenant, job_id, "poses")
    poses = await answered("GET", "/api/nerf/colmap/status/colmap_shoe")
    assert (poses["status"], poses["stage"], poses["progress"], poses["images_processed"]) == (
        "complete",
        "complete",
        100,
        2,
    )
    assert poses["output_path"].endswith(f"results/{job_id}/colmap")
    await play(running, tenant, job_id, "training")
    training = await answered("GET", "/api/nerf/train/status/train_shoe")
    assert (training["status"], training["progress"], training["gpu_type"]) == ("complete", 100, "T4")
    assert (training["cost_so_far"], training["model_path"][-6:]) == (0.25, "/model")
    assert {part["status"] for part in training["stage_details"].values()} == {"complete"}

    asked = {"train_job_id": "train_shoe", "trajectory_config": {"num_frames": 72, "radius": 2.0}}
    frames = await answered("POST", "/api/nerf/render", asked)
    assert (frames["job_id"], frames["total_frames"], frames["total_batches"]) == ("render_shoe", 1440, 10)
    assert "72" in frames["warnings"][0]
    assert (await http.get("/api/nerf/frames/render_shoe/1")).status_code == 404
    await running.bucket.put(running.bucket.key("results", job_id, "frames/batch_00.zip"), batch(), "application/zip")
    await play(running, tenant, job_id, "rendering")
    frames = await answered("GET", "/api/nerf/render/status/render_shoe")
    assert (frames["frames_rendered"], frames["frames_available"], frames["progress"]) == (144, 144, 10)
    for number in (1, 144):
        frame = await http.get(f"/api/nerf/frames/render_shoe/{number}")
        assert (frame.headers["content-type"], frame.content) == ("image/png", b"\x89PNG %d" % (number - 1))
    assert code_of(await http.get("/api/nerf/frames/render_shoe/145")) == "artifact_not_found"
    assert code_of(await http.get("/api/nerf/frames/render_shoe/1441")) == "artifact_not_found"


async def test_a_failed_job_is_repeated_and_an_unknown_one_is_not_found(client: Client) -> None:
    running, http, tenant = client
    key = {"Authorization": f"Bearer {tenant}.secret"} if tenant != "local" else {}
    photo = await running.uploaded(picture(), "image/png", filename="a.png", headers=key)
    began = (await http.post("/api/nerf/colmap", json={"job_id": "boot", "image_paths": [photo]})).json()
    error = SaccadeError(ErrorCode.CAPTURE_REFUSED, "Too few photos.").body()
    await running.say(began["id"], JobFailed(attempt=0, failure="user", error=error, duration_s=1.0), tenant)
    for path in ("colmap/status/colmap_boot", "train/status/train_boot", "render/status/render_boot"):
        found = (await http.get(f"/api/nerf/{path}")).json()
        assert (found["status"], found["error"]) == ("failed", "Too few photos.")
    body = {"job_id": "boot", "image_paths": [photo]}
    answers = await asyncio.gather(*(http.post("/api/nerf/colmap/retry/boot", json=body) for _ in range(4)))
    for again in (answer.json() for answer in answers):
        assert (again["id"], again["status"], again["error"]) == (began["id"], "processing", None)
    types = await running.types()
    assert sum("retrying" in kind for kind in types) == 1, types
    for path in ("colmap/status/x", "train/status/train_x", "render/status/render_x", "frames/x/1"):
        missing = await http.get(f"/api/nerf/{path}")
        assert (missing.status_code, code_of(missing)) == (404, "job_not_found")
        assert missing.json()["detail"], "which the client shows"


def batch() -> bytes:
    """Return the first ZIP of frames."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for index in range(144):
            archive.writestr(f"frame_{index:04d}.png", b"\x89PNG %d" % index)
    return made.getvalue()
