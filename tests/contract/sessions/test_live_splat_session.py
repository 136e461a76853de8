"""The live splat's worker on a real bus and bucket, fed by the virtual arm's camera."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from contracts.assignment import Assignment
from contracts.job import State
from modal_workers.gaussians.ply import decode_ply
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.spec import JOINT_LIMITS_RAD, WORKLOAD, LiveSplatParams
from services.dispatcher.executors.executor import CallState
from simulators.arm.motion import ArmMotion
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix
from tests.harness.network.holding_proxy import HoldingProxy
from tests.harness.runtime.executor_environment import ExecutorHarness, processes_of_run
from tests.harness.runtime.session_driver import SessionDriver
from tests.harness.servers.proxied_bucket import ProxiedS3

pytestmark = pytest.mark.anyio

WIDTH_PX, HEIGHT_PX = 160, 120
PARAMS = {"training_width_px": 80, "max_splats": 2000, "chunk_frames": 6, "held_out_every": 3, "frame_budget_s": 0.12}


@pytest.fixture
def harness(worker_harness: ExecutorHarness) -> ExecutorHarness:
    return worker_harness


class Arm:
    """The virtual arm, as fast as a test wants it."""

    def __init__(self, session: SessionDriver) -> None:
        self.session, self.seq = session, 0
        self._scene, self._motion = TableScene(1), ArmMotion(1)
        self._matrix = camera_matrix(WIDTH_PX, HEIGHT_PX)

    async def send(self, *, size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)) -> int:
        """Send the joints and the picture of the next moment: five moments a second of the motion."""
        at_s, now_s = 0.2 * self.seq, time.time()
        view = self._motion.camera_from_world(at_s)
        picture = cv2.resize(self._scene.render(self._matrix, view, WIDTH_PX, HEIGHT_PX), size)
        encoded = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, :, ::-1]))[1].tobytes()
        # Both state their clock: estimated offsets differ by what a busy machine delays the one longer than the other.
        await self.session.joints(
            (self.seq, now_s, self._motion.positions(at_s).tolist()),
            names=list(SO101.joint_names),
            clock={"offset_s": 0.0, "error_s": 0.0},
        )
        await self.session.frame(self.seq, encoded, captured_at_s=now_s, offset_s=0.0)
        self.seq += 1
        return self.seq - 1

    async def send_until_accepted(self, frames: int) -> None:
        """Send one frame after the other, each when the one before was judged."""
        while (totals := await self.session.totals()).accepted < frames:
            if totals.sent == self.session.sent:
                await self.send()
            await asyncio.sleep(0.03)


async def launch(harness: ExecutorHarness, session: SessionDriver, assignment: Assignment) -> str:
    call = await harness.executor().launch(assignment, WORKLOAD.compute)
    await session.until_published("session.ready", assignment.attempt)
    return call


@asynccontextmanager
async def killed_after_its_last_chunk(harness: ExecutorHarness, assignment: Assignment) -> AsyncIterator[None]:
    """Run a session whose worker is killed while it saves the whole model; the block has to end the session."""
    port = urlsplit(harness.s3.settings.endpoint_url).port
    assert port is not None
    async with HoldingProxy(port, rb"PUT \S+/model\.ply") as proxy:
        held = harness.s3.settings.model_copy(update={"endpoint_url": proxy.url})
        executor = replace(harness, s3=ProxiedS3(held)).executor()
        call = await executor.launch(assignment, WORKLOAD.compute)
        yield
        async with asyncio.timeout(60):
            await proxy.held.wait()
        for process in processes_of_run(assignment):
            process.kill()
        while (await executor.poll(call)).state is CallState.RUNNING:
            await asyncio.sleep(0.05)


async def status_of(session: SessionDriver) -> dict[str, Any]:
    """Return the file beside the chunks that clients of the replaced splat server watch."""
    bucket = session.driver.bucket
    found: dict[str, Any] = json.loads(await bucket.get(bucket.key("results", session.job_id, "status.json")))
    return found


def test_the_declaration_says_what_the_arm_and_the_camera_are() -> None:
    assert set(JOINT_LIMITS_RAD) == set(SO101.joint_names)
    for name, limits in SO101.limits_rad.items():
        assert JOINT_LIMITS_RAD[name] == pytest.approx(limits, abs=1e-5)
    default = LiveSplatParams().gripper_from_camera
    assert np.array(default).reshape(4, 4) == pytest.approx(GRIPPER_FROM_CAMERA, abs=1e-9)


async def test_a_splat_grows_dies_goes_on_and_is_the_same_when_it_is_replayed(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    first = await session.open(PARAMS, workload="live_splat")
    executor = harness.executor()
    call = await executor.launch(first, WORKLOAD.compute)
    await session.until_published("session.ready")
    arm = Arm(session)
    await session.frame(10_000, b"\xff\xd8 no picture", source="other")
    await arm.send_until_accepted(8)
    for process in processes_of_run(first):
        process.kill()
    while (await executor.poll(call)).state is CallState.RUNNING:
        await asyncio.sleep(0.05)
    told = {ack.seq for ack in await session.acks() if ack.status == "accepted"}
    second = await harness.driver.replace_attempt(first)
    await launch(harness, session, second)
    await arm.send_until_accepted(20)
    while not (told_status := await status_of(session))["chunks"]:
        await asyncio.sleep(0.05)
    assert (told_status["complete"], told_status["progress"]) == (False, told_status["frame_count"] / 10_000)
    odd = await arm.send(size=(120, 90))
    await session.until(lambda acks: any(ack.seq == odd for ack in acks))
    await session.stop()
    job = await harness.driver.until(session.job_id, State.SUCCEEDED)
    result = job.result
    assert result is not None
    acks = await session.acks()
    reasons = {(ack.source, ack.seq): ack.reason for ack in acks if ack.status == "rejected"}
    assert reasons == {("other", 10_000): "frame_unreadable", ("camera", odd): "frame_size_changed"}
    accepted = [ack for ack in acks if ack.status == "accepted"]
    assert told <= {ack.seq for ack in accepted}
    assert len({ack.seq for ack in accepted}) == len(accepted) == result["totals"]["accepted"]
    assert {ack.joints_gap_s for ack in accepted} == {0.0}

    assert result["psnr_db"] > 17, "with two thousand splats at eighty pixels"
    bucket = harness.driver.bucket
    key = lambda of, name: bucket.key("results", of.job_id, name)  # noqa: E731
    whole = await bucket.get(key(session, "model.ply"))
    (path := harness.folder / "model.ply").write_bytes(whole)
    assert len(decode_ply(path)) == result["splats"] <= PARAMS["max_splats"]
    assert len(await bucket.get(key(session, "live.ply"))) > 1000
    assert await status_of(session) == {
        "progress": 1.0,
        "chunks": [f"chunk_{number:04d}.ply" for number in range(1, result["chunks"] + 1)],
        "complete": True,
        "frame_count": result["totals"]["accepted"],
        "gaussian_count": result["splats"],
    }
    for number in range(1, result["chunks"] + 1):
        assert (await bucket.get(key(session, f"chunk_{number:04d}.ply"))).startswith(b"ply\n")

    again = SessionDriver(harness.driver)
    replay = await again.open(PARAMS, workload="live_splat", replay_of=session.session_id)
    await harness.executor().launch(replay, WORKLOAD.compute)
    job = await harness.driver.until_job(again.job_id, lambda job: job.state.ended)
    assert job.result is not None
    assert (job.result["steps"], job.result["chunks"]) == (result["steps"], result["chunks"])
    assert await bucket.get(key(again, "model.ply")) == whole


async def test_a_run_that_resumes_only_to_end_has_the_whole_model(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    first = await session.open(PARAMS, workload="live_splat")
    executor = harness.executor()
    call = await executor.launch(first, WORKLOAD.compute)
    await session.until_published("session.ready")
    await Arm(session).send_until_accepted(PARAMS["chunk_frames"])
    await session.until_published("session.chunk_exported")
    for process in processes_of_run(first):
        process.kill()
    while (await executor.poll(call)).state is CallState.RUNNING:
        await asyncio.sleep(0.05)
    await session.stop()
    await launch(harness, session, await harness.driver.replace_attempt(first))
    result = (await harness.driver.until(session.job_id, State.SUCCEEDED)).result
    assert result is not None
    assert (result["chunks"], result["totals"]["accepted"]) == (1, PARAMS["chunk_frames"])
    assert result["steps"] > PARAMS["chunk_frames"]
    assert result["psnr_db"] > 10
    bucket = harness.driver.bucket
    (path := harness.folder / "model.ply").write_bytes(
        await bucket.get(bucket.key("results", session.job_id, "model.ply"))
    )
    assert len(decode_ply(path)) == result["splats"] > 0
    assert (await status_of(session))["frame_count"] == PARAMS["chunk_frames"]


async def test_idle_steps_that_the_last_chunk_has_are_not_trained_twice(harness: ExecutorHarness) -> None:
    bucket = harness.driver.bucket
    session = SessionDriver(harness.driver)
    first = await session.open(PARAMS, workload="live_splat")
    async with killed_after_its_last_chunk(harness, first):
        await session.until_published("session.ready")
        await Arm(session).send_until_accepted(3)
        await asyncio.sleep(1.0)
        await session.stop()
    await launch(harness, session, await harness.driver.replace_attempt(first))
    result = (await harness.driver.until(session.job_id, State.SUCCEEDED)).result
    assert result is not None
    steps = [(ack.idle_steps or 0) + (ack.steps or 0) for ack in await session.acks() if ack.status == "accepted"]
    last_idle_steps = (await session.acked())[-1].last_idle_steps
    assert last_idle_steps
    assert sum(steps) + last_idle_steps == result["steps"], "a replay has to repeat all of them"
    whole = await bucket.get(bucket.key("results", session.job_id, "model.ply"))

    again = SessionDriver(harness.driver)
    replay = await again.open(PARAMS, workload="live_splat", replay_of=session.session_id)
    async with killed_after_its_last_chunk(harness, replay):
        await again.until_published("session.chunk_exported", result["chunks"])
    await launch(harness, again, await harness.driver.replace_attempt(replay))
    job = await harness.driver.until_job(again.job_id, lambda job: job.state.ended)
    assert job.result is not None
    assert (job.result["steps"], job.result["chunks"]) == (result["steps"], result["chunks"])
    assert await bucket.get(bucket.key("results", again.job_id, "model.ply")) == whole


async def test_a_frame_without_joints_is_refused_with_the_reason(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await launch(harness, session, await session.open(PARAMS, workload="live_splat"))
    picture = cv2.imencode(".jpg", np.zeros((90, 120, 3), np.uint8))[1].tobytes()
    await session.frame(1, picture)
    await session.until(lambda acks: len(acks) == 1)
    await session.joints((1, time.time(), [0.1, 0.2]), names=["shoulder_pan", "shoulder_lift"])
    await session.frame(2, picture)
    acks = await session.until(lambda acks: len(acks) == 2)
    assert [(ack.status, ack.reason) for ack in acks] == [
        ("rejected", "joints_missing"),
        ("rejected", "joints_invalid"),
    ]
    await session.stop()
    await harness.driver.until(session.job_id, State.SUCCEEDED)


async def test_a_webcam_without_a_robot_is_at_zero_where_that_is_said(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    opened = await session.open(PARAMS | {"missing_joints": "zeros"}, workload="live_splat")
    await launch(harness, session, opened)
    picture = cv2.imencode(".jpg", np.zeros((90, 120, 3), np.uint8))[1].tobytes()
    await session.frame(1, picture)
    (ack,) = await session.until(lambda acks: len(acks) == 1)
    assert (ack.status, ack.positions) == ("accepted", (0.0,) * 6)
    await session.stop()
    await harness.driver.until(session.job_id, State.SUCCEEDED)
    found = await status_of(session)
    assert (found["complete"], found["frame_count"], found["chunks"]) == (True, 1, ["chunk_0001.ply"])
