"""Clients of the splat server that this one replaces: its paths, its fields, its meaning, on one default session."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from contracts.limits import FRAME_BYTES
from contracts.telemetry import JointBatch
from kit.auth.api_keys import AuthSettings
from kit.bus.lease import Lease
from kit.settings import NatsSettings, S3Settings
from services.dispatcher.app import LEASE_NAME
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.sessions.scripted_session_worker import ScriptedSessionWorker, jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
#: What a live splat's worker needs, and this test does not.
TORCH = frozenset({"torch"})
RESET = {"success": True, "message": "Trainer reset"}
ANGLES = [0.1, -0.2, 0.3, -0.4, 0.5, 0.6]


@pytest.fixture
def servers(nats_server: NatsServer, s3_server: S3Server) -> Servers:
    return nats_server.settings, s3_server.settings


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path, backends=TORCH) as found:
        yield found


async def upload(running: RunningGateway, field: str = "file", body: bytes | None = None, **more: Any):
    files = {field: ("a.jpg", jpeg() if body is None else body, "image/jpeg")}
    return await running.http.post("/upload-frame", files=files, **more)


async def turn(running: RunningGateway, angles: list[Any]):
    kind = {"Content-Type": "application/json"}
    return await running.http.post("/update-joint-angles", content=json.dumps({"joint_angles": angles}), headers=kind)


async def status(running: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = (await running.http.get("/status")).json()
    return found


def told(worker: ScriptedSessionWorker) -> list[tuple[float, tuple[float, ...]]]:
    """Return when, and in which unit, the joints were sent."""
    batches = [JointBatch.model_validate_json(one.data) for one in worker.joints]
    return [(one.samples[0].captured_at_s, one.samples[0].positions) for one in batches]


async def test_before_the_first_frame_there_is_nothing(running: RunningGateway):
    assert (await running.http.get("/health")).json()["trainer_ready"] is True
    assert await status(running) == {
        "status": "idle", "trainer_ready": True, "training_active": False, "frame_count": 0, "refused_count": 0,
        "gaussian_count": 0, "progress": 0.0, "chunks": [], "chunk_count": 0, "chunks_uploaded": 0, "complete": False,
        "session_id": None,
    }  # fmt: skip
    polled = await running.http.get("/get-ply")
    assert (polled.status_code, polled.headers["content-type"]) == (200, "application/octet-stream")
    assert polled.content.startswith(b"ply\n")
    assert b"element vertex 0\n" in polled.content
    stopped = (await running.http.post("/stop-training")).json()
    assert stopped == {
        "success": True,
        "message": "Training complete",
        "chunks": [],
        "frame_count": 0,
        "complete": True,
    }
    assert (await running.http.post("/reset")).json() == RESET
    assert (await running.http.get("/v1/sessions")).json()["data"] == []


async def test_a_life_without_a_session_in_sight(running: RunningGateway):
    first = await upload(running)
    assert (first.status_code, first.json()) == (200, {"success": True, "frame_count": 1, "chunks_uploaded": 0})
    assert b"element vertex 0\n" in (await running.http.get("/get-ply")).content, "polled before there is a model"
    (session,) = (await running.http.get("/v1/sessions")).json()["data"]
    assert (session["workload"], session["state"]) == ("live_splat", "opening")
    assert (await running.http.get("/health")).json()["trainer_ready"] is False
    async with run_scripted_worker(running, session["id"]) as worker:
        await worker.claim()
        assert (await running.http.get("/health")).json()["trainer_ready"] is True
        assert (await upload(running, "frame")).json()["frame_count"] == 2
        answer = await turn(running, ANGLES)
        assert (answer.status_code, answer.json()) == (200, {"success": True, "joint_angles": ANGLES})
        assert (await upload(running)).json()["frame_count"] == 3
        await worker.heard(frames=2, joints=3)
        # A frame belongs to the angles that were told before it: zeros until some are.
        (before, zeros), (_, turned), (after, kept) = told(worker)
        assert (zeros, turned, kept) == ((0.0,) * 6, tuple(ANGLES), tuple(ANGLES))
        assert [float(one.headers["Frame-Captured-At"]) for one in worker.frames] == [before, after]
        await worker.export(body=b"")
        await worker.progress(splats=321)
        async with asyncio.timeout(20):
            while (now := await status(running))["gaussian_count"] != 321:
                await asyncio.sleep(0.02)
        assert (now["frame_count"], now["chunks_uploaded"], now["chunk_count"]) == (3, 1, 1)
        assert (now["chunks"], now["training_active"], now["complete"]) == (["chunk_0001.ply"], True, False)
        assert now["progress"] == 3 / 10_000, "a share of 10,000 frames, as the replaced server counts"
        assert (await upload(running)).json()["chunks_uploaded"] == 1
        await running.bucket.put(running.bucket.key("results", session["job"]["id"], "live.ply"), b"ply\n")
        assert (await running.http.get("/get-ply")).content == b"ply\n"
        assert (await running.http.post("/reset")).json() == RESET
        assert (await status(running))["frame_count"] == 0
        assert (await upload(running)).json()["frame_count"] == 1
        stopping = asyncio.ensure_future(running.http.post("/stop-training"))
        async with asyncio.timeout(20):
            while (await status(running))["status"] != "stopping":
                await asyncio.sleep(0.02)
        await worker.succeed()
        stopped = (await stopping).json()
        assert (stopped["success"], stopped["complete"], stopped["frame_count"]) == (True, True, 1)
        assert stopped["chunks"] == ["chunk_0001.ply"]
    ended = await status(running)
    assert (ended["status"], ended["progress"], ended["complete"]) == ("stopped", 1.0, True)
    assert ended["training_active"] is False
    assert (await status(running))["trainer_ready"] is True, "the next frame opens a session"
    for _ in range(2):
        assert (await running.http.post("/reset")).json() == RESET
        reset = await status(running)
        assert (reset["status"], reset["frame_count"], reset["chunks"], reset["session_id"]) == ("idle", 0, [], None)
    assert b"element vertex 0\n" in (await running.http.get("/get-ply")).content
    assert (await upload(running)).json()["frame_count"] == 1
    sessions = (await running.http.get("/v1/sessions")).json()["data"]
    assert [one["state"] for one in sessions] == ["opening", "stopped"]


async def test_many_first_frames_open_one_session_and_a_restart_goes_on_with_it(servers: Servers, tmp_path: Path):
    async with (
        running_gateway(*servers, tmp_path / "a", backends=TORCH) as one,
        running_gateway(*servers, tmp_path / "b", backends=TORCH) as other,
    ):
        answers = await asyncio.gather(*(upload(asked) for asked in (one, other) for _ in range(4)))
        assert [answer.status_code for answer in answers] == [200] * 8
        assert len((await one.http.get("/v1/sessions")).json()["data"]) == 1
        await turn(one, ANGLES)
    async with running_gateway(*servers, tmp_path / "a", backends=TORCH) as again:
        (session,) = (await again.http.get("/v1/sessions")).json()["data"]
        async with run_scripted_worker(again, session["id"]) as worker:
            assert (await upload(again)).json()["frame_count"] == 9
            await worker.heard(joints=1)
            assert told(worker)[0][1] == tuple(ANGLES)


async def test_frames_are_counted_from_the_last_reset_whoever_was_told_of_it(servers: Servers, tmp_path: Path):
    async with (
        running_gateway(*servers, tmp_path / "a", backends=TORCH) as one,
        running_gateway(*servers, tmp_path / "b", backends=TORCH) as other,
    ):
        for expected in (1, 2, 3):
            assert (await upload(one)).json()["frame_count"] == expected
        assert (await one.http.post("/reset")).json() == RESET
        assert (await status(one))["frame_count"] == 0
        for asked, expected in ((one, 1), (other, 2), (one, 3)):
            assert (await upload(asked)).json()["frame_count"] == expected
        # By the session's own route, and the other gateway is asked.
        (session,) = (await one.http.get("/v1/sessions")).json()["data"]
        assert (await other.http.post(f"/v1/sessions/{session['id']}/reset")).status_code < 300
        assert (await upload(other)).json()["frame_count"] == 1
    async with running_gateway(*servers, tmp_path / "a", backends=TORCH) as again:
        assert (await status(again))["frame_count"] == 1
        assert (await upload(again)).json()["frame_count"] == 2
        assert (await again.http.post("/reset")).status_code == 200
    async with running_gateway(*servers, tmp_path / "c", backends=TORCH) as new:
        assert (await status(new))["frame_count"] == 0


@pytest.mark.parametrize(
    "angles", [[], [0.0] * 5, [0.0] * 7, [math.nan] + [0.0] * 5, [math.inf] + [0.0] * 5, ["x"] + [0.0] * 5, [None] * 6]
)
async def test_anything_but_six_finite_angles_is_refused(running: RunningGateway, angles: list[Any]):
    answer = await turn(running, angles)
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
    assert answer.json()["errors"][0]["pointer"].startswith("#/joint_angles")
    assert (await running.http.get("/v1/sessions")).json()["data"] == []


async def test_frames_that_cannot_be_used_are_refused(running: RunningGateway):
    assert code_of(await upload(running, body=b"")) == "frame_empty"
    assert code_of(await upload(running, body=b"no picture")) == "frame_unreadable"
    assert code_of(await upload(running, body=bytes(FRAME_BYTES + 100_000))) == "frame_too_large"
    assert code_of(await upload(running, "picture")) == "invalid_parameter"
    found = await status(running)
    assert (found["frame_count"], found["refused_count"]) == (0, 3)
    assert (await upload(running)).json()["frame_count"] == 1
    assert (await running.http.post("/reset")).json() == RESET
    found = await status(running)
    assert (found["frame_count"], found["refused_count"]) == (0, 0)


async def test_without_a_worker_that_can_do_it_that_is_said(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as running:
        dispatcher = Lease(running.store.client, LEASE_NAME, 30.0, {"backends": ["cv2", "numpy"]})
        await dispatcher.acquire()
        assert code_of(await upload(running)) == "backend_not_installed"
        assert (await running.http.get("/health")).json()["trainer_ready"] is False
        assert (await status(running))["trainer_ready"] is False
        await dispatcher.release()


async def test_every_tenant_has_its_own(servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    async with running_gateway(*servers, tmp_path, auth=auth, backends=TORCH) as running:
        assert (await upload(running)).status_code == 401
        for name in ("acme", "rival"):
            headers = {"Authorization": f"Bearer {name}.secret"}
            assert (await upload(running, headers=headers)).json()["frame_count"] == 1
            assert (await running.http.get("/status", headers=headers)).json()["frame_count"] == 1
            assert (await running.http.get("/health", headers=headers)).json()["trainer_ready"] is False
        assert (await running.http.get("/health")).json()["trainer_ready"] is True


async def test_the_operator_says_whether_frames_need_joints(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def opened(running: RunningGateway, **params: str) -> str:
        session = await running.http.post("/v1/sessions", json={"workload": "live_splat", "params": params})
        return str((await running.http.get(session.headers["location"])).json()["params"]["missing_joints"])

    async with running_gateway(*servers, tmp_path / "a", backends=TORCH) as running:
        assert await opened(running) == "reject"
    monkeypatch.setenv("LIVE_SPLAT_MISSING_JOINTS", "zeros")
    async with running_gateway(*servers, tmp_path / "b", backends=TORCH) as running:
        assert await opened(running) == "zeros"
        assert await opened(running, missing_joints="reject") == "reject"
