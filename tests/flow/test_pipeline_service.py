"""A pipeline as its user has it: asked for over HTTP, done by real workers, shown with its stages, told as one job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from contracts.ids import stage_job_id
from contracts.job import State
from kit.settings import inherited_environment
from services.dispatcher.executors.local_executor import LocalExecutor
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.pipelines import reach_part, relay, relay_catalog
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway, video

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with relay_catalog(), shared_servers(tmp_path_factory.mktemp("pipelines")) as both:
        yield both


@dataclass
class Service:
    """A gateway and a dispatcher with real workers."""

    harness: DispatcherHarness
    running: RunningGateway

    async def ask(self, **fields: Any) -> dict[str, Any]:
        answer = await self.running.http.post("/v1/jobs", json={"workload": "relay"} | fields)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def get(self, path: str) -> Any:
        answer = await self.running.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until_ended(self, job_id: str) -> dict[str, Any]:
        with anyio.fail_after(40.0):
            while (job := await self.get(f"/v1/jobs/{job_id}"))["state"] not in ("succeeded", "failed", "cancelled"):
                await anyio.sleep(0.05)
        return job  # type: ignore[no-any-return]


@pytest.fixture
async def service(servers: Servers, tmp_path: Path) -> AsyncIterator[Service]:
    nats, s3 = servers
    environment = inherited_environment() | {"WORKER_CATALOG": "tests.pipeline_workers"}
    executor = LocalExecutor(tmp_path / "runs", nats.settings, s3.settings, slots=4, environment=environment)
    try:
        async with (
            open_dispatcher_harness(nats, s3) as harness,
            running_gateway(nats.settings, s3.settings, tmp_path) as running,
            harness.dispatching(harness.dispatcher(executor, *relay())),
        ):
            yield Service(harness, running)
    finally:
        await executor.close()


async def test_from_the_door_to_the_files(service: Service) -> None:
    photos = [await service.running.uploaded(picture(), "image/png", filename="a.png") for _ in range(2)]
    asked = await service.ask(
        inputs={"photos": photos}, params={"shards": 2, "killed_in": "shape"}, metadata={"a": "b"}
    )
    job_id = asked["id"]
    job = await service.until_ended(job_id)
    assert job["state"] == "succeeded", job
    assert job["result"] == {"text": "1/2 of 2 photos, 2/2 of 2 photos"}
    assert [(one["name"], one["state"], one["shards"], one["fraction"]) for one in job["stages"]] == [
        ("gather", "succeeded", 1, 1.0), ("shape", "succeeded", 2, 1.0), ("bind", "succeeded", 1, 1.0),
    ]  # fmt: skip
    assert [one["attempt"] for one in job["stages"][1]["jobs"]] == [1, 2], "only the shard that was killed ran again"
    artifacts = await service.get(f"/v1/jobs/{job_id}/artifacts")
    names = [one["name"] for one in artifacts["artifacts"]]
    assert names == ["bound.txt", "gathered.txt", "shapes/shape_00.txt", "shapes/shape_01.txt"]
    assert artifacts["complete"]

    # Its stages' jobs can be read and followed, and are not among the jobs.
    assert [one["id"] for one in (await service.get("/v1/jobs"))["data"]] == [job_id]
    parts = (await service.get(f"/v1/jobs?pipeline={job_id}"))["data"]
    assert len(parts) == 4
    assert {one["pipeline"] for one in parts} == {job_id}
    one = await service.get(f"/v1/jobs/{stage_job_id(job_id, 'shape', 0)}")
    assert (one["workload"], one["state"], one["stages"]) == ("relay_shape", "succeeded", [])
    own = await service.get(f"/v1/jobs/{stage_job_id(job_id, 'shape', 0)}/artifacts")
    assert [one["name"] for one in own["artifacts"]] == ["shapes/shape_00.txt"]


async def test_a_stage_s_job_is_not_cancelled_or_retried_alone(service: Service) -> None:
    video_id = await service.running.uploaded(video())
    job = await service.ask(inputs={"video": video_id})
    part_id = stage_job_id(job["id"], "gather", 0)
    await reach_part(
        service.harness, job["id"], "gather", 0, State.QUEUED, State.STARTING, State.RUNNING, tenant="local"
    )
    for verb in ("cancel", "retry"):
        answer = await service.running.http.post(f"/v1/jobs/{part_id}/{verb}")
        assert code_of(answer) == "job_in_pipeline"
        assert job["id"] in answer.json()["detail"]
    assert (await service.running.http.post(f"/v1/jobs/{job['id']}/cancel")).status_code == 200
    assert (await service.until_ended(job["id"]))["state"] == "cancelled"


async def test_what_the_door_refuses(service: Service) -> None:
    http = service.running.http
    photo = await service.running.uploaded(picture(), "image/png", filename="a.png")
    clip = await service.running.uploaded(video())
    refused = [
        ({}, "missing_input"),
        ({"masks": photo}, "missing_input"),
        ({"photos": photo, "video": clip}, "invalid_parameter"),
    ]
    for inputs, code in refused:
        answer = await http.post("/v1/jobs", json={"workload": "relay", "inputs": inputs})
        assert code_of(answer) == code
        assert "exactly one of photos, video" in answer.json()["detail"]
    answer = await http.post("/v1/jobs", json={"workload": "relay_shape"})
    assert code_of(answer) == "invalid_parameter"
    assert "stage of a pipeline" in answer.json()["detail"]


async def test_what_it_would_cost_is_the_sum_of_its_stages(service: Service) -> None:
    found = {one["name"]: one for one in (await service.get("/v1/workloads"))["data"]}
    assert not [name for name in found if name.startswith(("relay_", "nerf_"))]
    declared = found["relay"]
    assert declared["kind"] == "pipeline"
    assert declared["one_of"] == [["photos", "video"]]
    assert [one["shards"] for one in declared["stages"]] == [1, 3, 1]
    assert declared["stages"][1]["compute"]["gpus"] == ["T4", "A100-40GB"]
    assert declared["estimate"]["seconds"] == 10.0 * 5
    clip = await service.running.uploaded(video())
    job = await service.ask(inputs={"video": clip}, params={"only_gather": True})
    assert (await service.until_ended(job["id"]))["state"] == "succeeded"
    declared = {one["name"]: one for one in (await service.get("/v1/workloads"))["data"]}["relay"]
    assert [one["estimate"]["basis"] for one in declared["stages"]] == ["history", "spec", "spec"]
    skipped = [one["state"] for one in (await service.get(f"/v1/jobs/{job['id']}"))["stages"]]
    assert skipped == ["succeeded", "skipped", "skipped"]
