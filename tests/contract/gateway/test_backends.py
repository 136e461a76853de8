"""Workloads that no worker can run: the dispatcher says what its workers have, and the gateway refuses early."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.job import JobFailed
from contracts.ids import new_id
from contracts.job import State
from kit.bus.connection import connect
from kit.bus.lease import Lease
from kit.settings import NatsSettings, S3Settings
from services.dispatcher.app import LEASE_NAME
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
#: What the workers of `make up` have: nothing of live_splat, and of nerf only what the first stage needs.
REPORTED = ["PIL", "av", "cv2", "matplotlib", "numpy"]
HINT = "start it with: make up-all"
PHOTO = {"filename": "a.jpg", "content_type": "image/jpeg", "size_bytes": 10}


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path, install_hint=HINT) as found:
        yield found


@pytest.fixture
async def lease(servers: Servers, running: RunningGateway) -> AsyncIterator[Lease]:
    """Hold the lease as a dispatcher does whose workers lack a few modules; the gateway has read it."""
    client = await connect(servers[0], "dispatcher")
    held = Lease(client, LEASE_NAME, 30.0, {"backends": REPORTED})
    await held.acquire()
    await told(running, "live_splat", available=False)
    yield held
    await held.release()
    await client.close()


async def told(running: RunningGateway, name: str, *, available: bool) -> dict[str, Any]:
    """Return a workload as the gateway shows it, once it is available or not."""
    with anyio.fail_after(10):
        while True:
            listed = (await running.http.get("/v1/workloads")).json()["data"]
            shown: dict[str, Any] = next(one for one in listed if one["name"] == name)
            if shown["available"] is available:
                return shown
            await anyio.sleep(0.05)


async def test_the_list_says_what_is_missing_and_what_installs_it(running: RunningGateway, lease: Lease):
    shown = await told(running, "nerf", available=False)
    assert (shown["missing"], shown["enable"]) == (["pi_heif", "pycolmap", "torch"], HINT)
    shown = await told(running, "lap_compare", available=True)
    assert (shown["missing"], shown["enable"]) == ([], None)
    assert {one["package"]: one["installed"] for one in shown["backends"]}["saccade_yolo"] is False


async def test_what_no_worker_can_run_is_refused_before_the_first_byte(running: RunningGateway, lease: Lease):
    before = await running.types()
    for route, body in (
        ("/v1/uploads", PHOTO | {"workload": "nerf"}),
        ("/v1/jobs", {"workload": "nerf", "inputs": {"photos": [new_id("upl")]}}),
        ("/v1/sessions", {"workload": "live_splat"}),
    ):
        answer = await running.http.post(route, json=body)
        assert (answer.status_code, code_of(answer)) == (422, "backend_not_installed"), route
        assert answer.json()["hint"] == HINT
        assert "torch" in answer.json()["detail"]
    answer = await running.http.post("/v1/uploads", json=PHOTO | {"workload": "lap_compare"})
    assert answer.status_code == 201
    assert await running.types() == [*before, "upload.created"]


async def test_only_the_stages_that_the_parameters_need_count(running: RunningGateway, lease: Lease):
    body = {"workload": "nerf", "params": {"preflight_only": True}, "inputs": {"photos": [new_id("upl")]}}
    refused = (await running.http.post("/v1/jobs", json=body)).json()
    assert (refused["code"], "pi_heif" in refused["detail"], "pycolmap" in refused["detail"]) == (
        "backend_not_installed",
        True,
        False,
    )


async def test_a_report_holds_while_the_dispatcher_is_away(running: RunningGateway, lease: Lease):
    await lease.release()
    await anyio.sleep(1.2)  # older than what the gateway keeps
    assert (await told(running, "nerf", available=False))["missing"]


async def test_before_any_report_a_job_is_stored_and_the_worker_decides(running: RunningGateway):
    assert (await told(running, "nerf", available=True))["missing"] == []
    body = {"workload": "nerf", "inputs": {"photos": [new_id("upl")]}}
    assert code_of(await running.http.post("/v1/jobs", json=body)) == "upload_not_found"


async def test_a_retry_that_no_worker_can_run_is_refused_and_keeps_the_job(servers: Servers, running: RunningGateway):
    job = await running.submitted(await running.uploaded())
    error = ErrorBody(code=ErrorCode.BACKEND_NOT_INSTALLED, message="no cv2", hint="install it")
    await running.say(job["id"], JobFailed(attempt=1, failure="user", error=error))
    dispatcher = Lease(running.store.client, LEASE_NAME, 30.0, {"backends": ["PIL"]})
    await dispatcher.acquire()
    assert (await told(running, "lap_compare", available=False))["missing"] == ["av", "cv2", "matplotlib", "numpy"]
    refused = await running.http.post(f"/v1/jobs/{job['id']}/retry")
    assert (refused.status_code, code_of(refused)) == (422, "backend_not_installed")
    assert (await running.job(job["id"])).state is State.FAILED
    await dispatcher.release()
    # Another dispatcher, whose workers have it.
    dispatcher = Lease(running.store.client, LEASE_NAME, 30.0, {"backends": REPORTED})
    await dispatcher.acquire()
    await told(running, "lap_compare", available=True)
    assert (await running.http.post(f"/v1/jobs/{job['id']}/retry")).status_code == 200
    await dispatcher.release()
