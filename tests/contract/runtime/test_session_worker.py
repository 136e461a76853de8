"""Worker of a live session on a real bus: one acknowledgement per frame, joints by time, kills and repeats."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from statistics import median

import pytest

from contracts.assignment import Assignment
from contracts.errors import ErrorCode
from contracts.job import State
from contracts.manifest import Manifest
from modal_workers.runtime.sessions.resume_position import POSITION_NAME, ResumePosition
from services.dispatcher.executors.executor import CallState
from tests.harness.runtime.executor_environment import ExecutorHarness, processes_of_run
from tests.harness.runtime.session_driver import SessionDriver
from tests.session_workers.watching.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture
def harness(session_harness: ExecutorHarness) -> ExecutorHarness:
    return session_harness


async def begin(harness: ExecutorHarness, session: SessionDriver, assignment: Assignment) -> str:
    call = await harness.executor().launch(assignment, WORKLOAD.compute)
    await session.until_published("session.ready", assignment.attempt)
    return call


async def finish(harness: ExecutorHarness, session: SessionDriver) -> dict[str, object]:
    """Stop the session and return its result."""
    await session.stop()
    job = await harness.driver.until(session.job_id, State.SUCCEEDED)
    assert job.result is not None
    return job.result


async def test_every_frame_gets_one_acknowledgement_and_the_totals_add_up(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({}))
    await session.frame(1)
    await session.until(lambda acks: len(acks) == 1)
    await session.frame(2, b"noise")
    await session.until(lambda acks: len(acks) == 2)
    await session.frame(2)
    await session.frame(1, refused=ErrorCode.FRAME_TOO_LARGE)
    await session.frame(5, refused=ErrorCode.FRAME_TOO_LARGE)
    await session.frame(7)
    await session.until(lambda acks: any(ack.seq == 7 for ack in acks))
    await session.frame(6)
    acks = await session.until(lambda acks: len(acks) == session.sent)
    assert [(ack.seq, ack.status, ack.reason) for ack in acks] == [
        (1, "accepted", None),
        (2, "rejected", "frame_unreadable"),
        (2, "dropped", "repeated"),
        (1, "dropped", "repeated"),
        (5, "rejected", "frame_too_large"),
        (7, "accepted", None),
        (6, "dropped", "late"),
    ]
    totals = await session.totals()
    assert (totals.sent, totals.accepted, totals.dropped, totals.rejected, totals.waiting) == (7, 2, 3, 2, 0)
    result = await finish(harness, session)
    assert result["totals"] == totals.model_dump()
    types = await session.types()
    said = ("opened", "ready", "started", "stop_requested", "chunk_exported")
    assert types == [f"session.{verb}" for verb in said]
    assert [line["seq"] for line in await session.notes("chunk_0001.json")] == [1, 7]


async def test_a_slow_worker_takes_the_newest_and_forgets_the_rest(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({"service_s": 0.2}))
    for seq in range(60):
        await session.frame(seq)
        await asyncio.sleep(0.02)
    acks = await session.until(lambda acks: len(acks) == 60)
    await finish(harness, session)
    counts = Counter((ack.status, ack.reason) for ack in acks)
    assert set(counts) == {("accepted", None), ("dropped", "superseded")}
    accepted = [ack.seq for ack in acks if ack.status == "accepted"]
    assert accepted == sorted(accepted)
    assert 5 <= len(accepted) <= 12, "1.2 s of frames, 0.2 s each"
    assert all(ack.queue_depth <= 16 for ack in acks)
    assert sorted(ack.seq for ack in acks) == list(range(60))


async def test_frames_are_joined_with_the_joints_at_their_capture_time(harness: ExecutorHarness) -> None:
    """Use a robot clock that is 120 ms off and states it; joints are a linear function of its own time."""
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({}))
    skew_s, began_s = 0.12, time.time()
    angle = lambda own_s: 0.5 * (own_s - began_s)  # noqa: E731
    truth = {}
    for seq in range(30):
        own_s = time.time() + skew_s
        samples = [
            (10 * seq + step, own_s - 0.005 * (1 - step), [angle(own_s - 0.005 * (1 - step))]) for step in (0, 1)
        ]
        await session.joints(*samples, clock={"offset_s": -skew_s, "error_s": 0.0})
        captured_s = time.time() - 0.013
        truth[seq] = angle(captured_s + skew_s)
        await session.frame(seq, captured_at_s=captured_s, offset_s=0.0)
        await asyncio.sleep(0.02)
    acks = await session.until(lambda acks: len(acks) == 30)
    await finish(harness, session)
    accepted = [ack for ack in acks if ack.status == "accepted" and ack.seq > 0]
    assert len(accepted) >= 5
    errors: list[float] = []
    for ack in accepted:
        assert ack.positions is not None
        assert ack.joints_gap_s is not None
        # Between two samples nothing is lost; of the newest one, when the next is late, what the arm went since.
        errors.append(abs(ack.positions[0] - truth[ack.seq]))
        assert errors[-1] < 0.5 * (ack.joints_gap_s + 0.002)
    assert median(errors) < 0.5 * 0.002, "two milliseconds of the arm's way"


async def test_unstated_clock_offsets_are_estimated_from_arrivals(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({}))
    began_s = time.time()
    truth = {}
    for seq in range(40):
        robot_s, camera_s = time.time() + 0.12, time.time() - 300.0
        await session.joints((seq, robot_s, [robot_s - began_s]))
        await session.frame(seq, captured_at_s=camera_s)
        truth[seq] = robot_s - began_s
        await asyncio.sleep(0.03)
    acks = await session.until(lambda acks: len(acks) == 40)
    await finish(harness, session)
    errors = [
        abs(ack.positions[0] - truth[ack.seq])
        for ack in acks
        if ack.status == "accepted" and ack.positions is not None and ack.seq > 5
    ]
    assert len(errors) >= 5, "a busy machine takes fewer of them"
    assert max(errors) < 0.015, "half of the frame interval"


async def test_a_killed_worker_resumes_from_its_chunk_and_no_accepted_frame_is_lost(harness: ExecutorHarness) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    session = SessionDriver(harness.driver)
    first = await session.open({"chunk_frames": 5, "dies_after": dice.randrange(1, 14), "service_s": 0.02})
    call = await begin(harness, session, first)
    seq = 0
    executor = harness.made[-1]
    while (await executor.poll(call)).state is CallState.RUNNING:
        await session.frame(seq)
        seq += 1
        await asyncio.sleep(0.05)
        assert seq < 400
    told = {ack.seq for ack in await session.acks() if ack.status == "accepted"}
    second = await harness.driver.replace_attempt(first)
    second = second.model_copy(update={"params": second.params | {"params": {"chunk_frames": 5}}})
    await begin(harness, session, second)
    for _ in range(20):
        await session.frame(seq)
        seq += 1
        await asyncio.sleep(0.02)
    acks = await session.until(lambda acks: len(acks) == session.sent)
    result = await finish(harness, session)
    assert len({ack.seq for ack in acks}) == len(acks) == seq, "each frame has one verdict"
    lines = await session.notes(f"chunk_{result['chunks']:04d}.json")
    accepted = [ack.seq for ack in acks if ack.status == "accepted"]
    assert told <= set(accepted)
    assert [line["seq"] for line in lines] == accepted
    assert {ack.seq: ack.steps for ack in acks if ack.status == "accepted"} == {
        line["seq"]: line["steps"] for line in lines
    }, "what is done again is done as it was"
    totals = await session.totals()
    assert (totals.sent, totals.accepted) == (seq, len(accepted))
    assert (await session.types()).count("session.started") == 1


async def test_a_reset_forgets_and_a_replay_does_the_same_again(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({"chunk_frames": 4, "service_s": 0.03}))
    for seq in range(30):
        await session.joints((seq, time.time(), [seq / 10]))
        await session.frame(seq)
        await asyncio.sleep(0.01)
        if seq == 12:
            await session.until(lambda acks: len(acks) == 13)
            await session.reset()
            await asyncio.sleep(0.3)
    acks = await session.until(lambda acks: len(acks) == 30)
    result = await finish(harness, session)
    last = await session.notes(f"chunk_{result['chunks']:04d}.json")
    assert [line["seq"] for line in last] == [ack.seq for ack in acks if ack.status == "accepted" and ack.seq > 12]

    again = SessionDriver(harness.driver)
    assignment = await again.open({"chunk_frames": 4, "service_s": 0.0}, replay_of=session.session_id)
    await harness.executor().launch(assignment, WORKLOAD.compute)
    job = await harness.driver.until(again.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["chunks"] == result["chunks"]
    for number in range(1, int(str(result["chunks"])) + 1):
        name = f"chunk_{number:04d}.json"
        assert await again.notes(name) == await session.notes(name)
    verdicts = lambda of: sorted((ack.seq, ack.status, ack.reason) for ack in of)  # noqa: E731
    assert verdicts(await again.acks()) == verdicts(acks)


async def test_a_killed_replay_goes_on_where_its_saved_state_ends(harness: ExecutorHarness) -> None:
    session = SessionDriver(harness.driver)
    await begin(harness, session, await session.open({"chunk_frames": 2}))
    for seq in range(16):
        await session.frame(seq, refused=ErrorCode.FRAME_TOO_LARGE if seq == 7 else None)
        await session.until(lambda acks: len(acks) == seq + 1)  # noqa: B023 - awaited here
        if seq == 4:
            await session.reset()
            await asyncio.sleep(0.3)
    acks = await session.acks()
    result = await finish(harness, session)

    again = SessionDriver(harness.driver)
    slow = {"chunk_frames": 2, "service_s": 0.3}
    assignment = await again.open(slow, replay_of=session.session_id)
    executor = harness.executor()
    for chunks in (2, 4, 5):
        call = await executor.launch(assignment, WORKLOAD.compute)
        await again.until_published("session.chunk_exported", chunks)
        await asyncio.sleep(0.4)
        for process in processes_of_run(assignment):
            process.kill()
        while (await executor.poll(call)).state is CallState.RUNNING:
            await asyncio.sleep(0.05)
        assignment = await harness.driver.replace_attempt(assignment)
    await executor.launch(assignment, WORKLOAD.compute)
    job = await harness.driver.until(again.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["chunks"] == result["chunks"]
    for number in range(1, int(str(result["chunks"])) + 1):
        name = f"chunk_{number:04d}.json"
        assert await again.notes(name) == await session.notes(name)
    verdicts = lambda of: sorted((ack.seq, ack.status, ack.reason) for ack in of)  # noqa: E731
    assert verdicts(await again.acks()) == verdicts(acks), "each frame has one verdict"
    totals = await again.totals()
    assert (totals.sent, totals.accepted, totals.rejected, totals.waiting) == (16, 15, 1, 0)
    assert job.result["totals"] == totals.model_dump()


async def test_a_run_that_resumes_reports_and_lists_the_chunks_of_the_run_before(harness: ExecutorHarness) -> None:
    """What a run leaves that is killed after it saved its second position, and before it published the chunk."""
    session = SessionDriver(harness.driver)
    first = await session.open({"chunk_frames": 2, "dies_after": 3})
    call = await begin(harness, session, first)
    for seq in range(3):
        await session.until(lambda acks: len(acks) == seq)  # noqa: B023 - awaited here; none is dropped
        await session.frame(seq)
    while (await harness.made[-1].poll(call)).state is CallState.RUNNING:
        await asyncio.sleep(0.05)
    bucket = harness.driver.bucket
    key = bucket.key("scratch", session.job_id, "checkpoints", POSITION_NAME)
    saved = ResumePosition.model_validate_json(await bucket.get(key))
    (told,) = saved.chunks
    untold = told.model_copy(update={"name": "chunk_0002.json", "key": told.key.replace("0001", "0002")})
    await bucket.put(untold.key, await bucket.get(told.key))
    behind = saved.model_copy(update={"chunks": (told, untold), "figures": {"lines": 2}})
    await bucket.put(key, behind.model_dump_json().encode())
    second = await harness.driver.replace_attempt(first)
    second = second.model_copy(update={"params": second.params | {"params": {"chunk_frames": 20}}})
    await begin(harness, session, second)
    await session.until_published("session.chunk_exported", 2)
    reported = (await session.session()).chunk
    assert reported is not None
    assert (reported.chunk, reported.artifact, reported.figures) == (2, untold, {"lines": 2})
    assert (await finish(harness, session))["chunks"] == 3
    assert (await session.types()).count("session.chunk_exported") == 3, "each once"
    manifest = Manifest.model_validate_json(await bucket.get(bucket.key("results", session.job_id, "manifest.json")))
    assert [artifact.name for artifact in manifest.artifacts] == [f"chunk_000{number}.json" for number in (1, 2, 3)]


async def test_a_session_without_frames_or_beyond_its_length_ends(harness: ExecutorHarness) -> None:
    idle, long = SessionDriver(harness.driver), SessionDriver(harness.driver)
    await begin(harness, idle, await idle.open({}, idle_timeout_s=0.5))
    await begin(harness, long, await long.open({}, max_length_s=3.0))
    for seq in range(5):
        await long.frame(seq)
    for session, reason in ((idle, "idle"), (long, "length")):
        job = await harness.driver.until(session.job_id, State.SUCCEEDED)
        assert job.result is not None
        assert job.result["reason"] == reason
