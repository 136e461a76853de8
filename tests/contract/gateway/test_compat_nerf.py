"""The replaced product-photo service's call and settings, served as an adapter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from contracts.ids import new_id
from kit.bucket import open_bucket
from services.dispatcher.executors.executor_factory import open_executor
from services.dispatcher.executors.local_executor import LocalExecutor
from services.dispatcher.settings import DispatcherSettings
from services.gateway.settings import CompatNerfSettings
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("servers")) as both:
        yield both


@pytest.fixture
async def running(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningGateway]:
    monkeypatch.setenv("NERF_DEFAULT_ITERATIONS", "700")
    monkeypatch.setenv("GPU_TYPE_DEV", "A10G")
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", "12")
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path, executor="modal") as found:
        yield found


async def test_photos_become_a_job_of_nerf_with_the_settings_of_before(running: RunningGateway) -> None:
    photos = [await running.uploaded(picture(), "image/png", filename=f"{name}.png") for name in "ab"]
    second = running.view.upload(photos[1])
    assert second
    body = {"job_id": "order 17/ä", "image_paths": [photos[0], second.created.key], "user": "left out"}
    answer = await running.http.post("/api/nerf/colmap", json=body)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["success"], told["job_id"], told["state"]) == (True, "order 17/ä", "submitted")
    assert (told["status"], told["stage"], told["progress"]) == ("processing", "feature_extraction", 0)
    job = (await running.http.get(answer.headers["location"])).json()
    assert job["workload"] == "nerf"
    assert [one["upload_id"] for one in job["inputs"]["photos"]] == photos
    assert job["params"]["iterations"] == 700
    assert job["params"]["keep_hours"] == 12
    assert job["metadata"] == {"job_id": "order 17/ä"}
    submitted = (await running.job(job["id"])).submitted
    assert (submitted.gpu, submitted.gpu_fallback) == ("A10", True)
    assert told["progress_file"].endswith(f"results/{job['id']}/progress.json")
    again = await running.http.post("/api/nerf/colmap", json=body)
    assert again.json()["id"] == told["id"], "the same name and photos are the same job"


async def test_a_path_that_names_no_upload_is_refused_with_what_to_do(running: RunningGateway) -> None:
    for path in ("/photos/a.jpg", new_id("upl")):
        answer = await running.http.post("/api/nerf/colmap", json={"job_id": "x", "image_paths": [path]})
        assert code_of(answer) == "upload_not_found"
    assert (await running.http.post("/api/nerf/colmap", json={"job_id": "x", "image_paths": []})).status_code == 422


def test_a_gpu_that_there_is_not_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU_TYPE_PROD", "T5")
    with pytest.raises(ValidationError, match="There is no GPU 'T5'"):
        CompatNerfSettings()


async def test_mock_modal_runs_workers_here(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOCK_MODAL", "true")
    nats, s3 = servers
    settings = DispatcherSettings(executor="modal", data_dir=tmp_path)
    async with open_bucket(s3.settings) as bucket:
        async with open_executor(settings, nats.settings, s3.settings, bucket) as executor:
            assert isinstance(executor, LocalExecutor)
        async with running_gateway(nats.settings, s3.settings, tmp_path, executor="modal") as running:
            found = {one["name"]: one for one in (await running.http.get("/v1/workloads")).json()["data"]}
            assert found["nerf"]["estimate"]["device"] == "cpu"
