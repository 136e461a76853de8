"""A market of rented GPUs: capacity and prices that change, queues, slow starts, preemption, memory that is too small.

It is an executor whose containers are coroutines, and it keeps its own bills, so that what is said to have been paid
can be held against what was.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.job import (
    Cost,
    JobArtifactReady,
    JobInterrupted,
    JobStageCompleted,
    JobStarted,
    JobSucceeded,
)
from contracts.gpu_ladder import gpu_ladder
from contracts.job import State
from contracts.manifest import Artifact, Manifest
from contracts.streams import aggregate
from contracts.workload import Compute
from kit.bus.event_store import Conflict
from kit.tasks import end
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, Throttled
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.whatif.memory_store import MemoryStore
from services.whatif.virtual_time import now

MEMORY_GIB: Final = {
    "cpu": 64, "T4": 16, "L4": 24, "A10": 24, "L40S": 48, "A100-40GB": 40, "A100-80GB": 80, "H100": 80,
}  # fmt: skip
#: A container that is told to go takes at most so long.
GOING_S: Final = 1.5
_BEAT_S: Final = 2.0
#: An answer about a call may be as old as this, unless it is urgent.
_STALE_S: Final = 30.0
#: Launches that are taken in one second, and how long none are after that.
_LAUNCHES: Final = 4
LATER_S: Final = 37.0

End = Literal["succeeds", "user", "out_of_memory", "preempted", "dies", "hangs", "capped", "stopped"]


@dataclass
class Bill:
    """What one container really costs: from when it holds its device until it is gone."""

    job_id: str
    run_id: str
    device: str
    usd_per_s: float
    since_s: float
    startup_s: float = 0.0
    until_s: float | None = None
    #: Its worker got the claim; what a container costs that never does is nobody's attempt.
    claimed: bool = False
    #: It keeps to what the job may still cost by itself.
    obedient: bool = True
    end: End | None = None

    def usd(self, at_s: float) -> float:
        return ((self.until_s if self.until_s is not None else at_s) - self.since_s) * self.usd_per_s


@dataclass
class Call:
    """One spawned call."""

    assignment: Assignment
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    seen: tuple[float, CallStatus] | None = None


class Pool:
    """The devices of one kind that can be had now."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.most = capacity
        self.waiting = 0
        self.held: list[Call] = []
        self._changed = asyncio.Condition()

    async def hold(self, call: Call) -> None:
        self.waiting += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: len(self.held) < self.capacity)
                self.held.append(call)
        finally:
            self.waiting -= 1

    async def release(self, call: Call) -> None:
        async with self._changed:
            self.held.remove(call)
            self._changed.notify_all()

    async def become(self, capacity: int) -> None:
        async with self._changed:
            self.capacity = capacity
            self._changed.notify_all()


class GpuMarket:
    """An ``Executor``; the fate of each attempt is drawn from the seed, the job's number and the attempt's."""

    name = "modal"
    queues = True

    def __init__(self, seed: int, store: MemoryStore, hear: Callable[[str, str], None]) -> None:
        self.seed = seed
        self.bills: dict[str, Bill] = {}
        self.launched: list[Assignment] = []
        self.preempted = 0
        self.numbers: dict[str, int] = {}
        #: Share of launches that are refused, and of the workers which die that have left their result before.
        self.refused_share = 0.01
        self.launches_per_s = _LAUNCHES
        self.leaves_result_share = 0.0
        self.manifests: dict[str, Manifest] = {}
        #: Workers tell of a stage and a file.
        self.tells_more = False
        self.pools: dict[str, Pool] = {}
        self.billed: dict[str, float] = {}
        self.hear = hear
        self._store = store
        self._calls: dict[str, Call] = {}
        self._chance = random.Random(f"{seed} market")
        self._second = (0, 0)

    # ---- what the dispatcher asks

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        if gpu:
            return (gpu,)
        return gpu_ladder(compute.gpus, "development") if compute.gpus else ("cpu",)

    async def rates(self) -> Mapping[str, float]:
        return self.billed

    async def launch(self, assignment: Assignment, compute: Compute) -> str:  # noqa: ARG002
        await asyncio.sleep(self._chance.uniform(0.01, 0.2))
        second = int(asyncio.get_running_loop().time())
        self._second = (second, self._second[1] + 1 if self._second[0] == second else 1)
        if self._second[1] > self.launches_per_s:
            raise Throttled("No more calls for now.", LATER_S)
        if self._chance.random() < self.refused_share:
            raise LaunchFailed("The call was refused.")
        self.launched.append(assignment)
        call = Call(assignment)
        call_id = f"fc-{assignment.run_id}"
        self._calls[call_id] = call
        call.task = asyncio.create_task(self._contain(call))
        await asyncio.sleep(self._chance.uniform(0.01, 0.2))
        return call_id

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        call = self._calls[call_id]
        time_s = asyncio.get_running_loop().time()
        if call.seen is None or urgent or time_s - call.seen[0] >= _STALE_S:
            assert call.task
            ended = CallStatus(CallState.ENDED, None, "The call has ended.", "lost")
            call.seen = (time_s, ended if call.task.done() else CallStatus(CallState.RUNNING))
        return call.seen[1]

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002
        return CallBacklog(self.pools[device].waiting, len(self.pools[device].held))

    async def cancel(self, call_id: str) -> None:
        call = self._calls[call_id]
        assert call.task
        if call.task.done():
            return
        call.stop.set()
        await asyncio.wait([call.task], timeout=GOING_S)
        await end(call.task)

    async def find(self, run_id: str) -> str | None:  # noqa: ARG002 - Modal cannot tell
        return None

    async def clear_cache(self, job_id: str) -> None:  # noqa: ARG002
        return None

    async def close(self) -> None:
        return None

    # ---- what the market does

    def preempt(self, device: str) -> None:
        """Take a device away from whom it was given to."""
        if held := self.pools[device].held:
            self.preempted += 1
            self._chance.choice(held).stop.set()

    def number(self, job_id: str) -> int:
        """Return the number from which the fate of a job is drawn; those of pipelines' stages get one as they come."""
        return self.numbers.setdefault(job_id, len(self.numbers))

    def at_work(self) -> int:
        return sum(not call.task.done() for call in self._calls.values() if call.task)

    async def _contain(self, call: Call) -> None:
        one = call.assignment
        loop = asyncio.get_running_loop()
        fate = random.Random(f"{self.seed} {self.number(one.job_id)} {one.attempt}")
        pool = self.pools[one.device]
        bill: Bill | None = None
        try:
            if not await _unless_stopped(pool.hold(call), call.stop):
                return
            bill = Bill(one.job_id, one.run_id, one.device, one.usd_per_s, loop.time(), obedient=fate.random() < 0.5)
            self.bills[one.run_id] = bill
            # Most begin quickly; some images take their time.
            startup_s = fate.uniform(1, 8) if fate.random() < 0.93 else fate.uniform(30, 150)
            if not await _stopped_within(call.stop, startup_s):
                await self._work(call, bill, fate)
        finally:
            if bill is not None and bill.until_s is None:
                bill.until_s = loop.time()
            if call in pool.held:
                await pool.release(call)

    async def _work(self, call: Call, bill: Bill, fate: random.Random) -> None:
        one = call.assignment
        loop = asyncio.get_running_loop()
        billed_since = now() - timedelta(seconds=loop.time() - bill.since_s)
        started = JobStarted(
            attempt=one.attempt,
            run_id=one.run_id,
            device=one.device,
            worker=one.run_id,
            call_id=f"fc-{one.run_id}",
            billed_since=billed_since,
        )
        claimed_s = loop.time()
        if not await self._say(one, started, State.STARTING, State.WAITING_FOR_GPU):
            return
        bill.claimed, bill.startup_s = True, claimed_s - bill.since_s
        self.hear(one.job_id, one.run_id)
        if self.tells_more:
            await self._tell_more(one)
        seconds, end = self._fate(bill, one, fate)
        bill.end = end
        until_s = claimed_s + seconds
        while (left_s := until_s - loop.time()) > 0:
            if not await _stopped_within(call.stop, min(_BEAT_S, left_s)):
                self.hear(one.job_id, one.run_id)
                continue
            bill.end = end = "stopped"
            await asyncio.sleep(fate.uniform(0.05, 1.0))
            break
        if end == "hangs":
            await asyncio.sleep(1e6)
        if end != "dies":
            await self._last_words(one, bill, end)
        elif fate.random() < self.leaves_result_share:
            self.manifests[one.job_id] = Manifest(
                job_id=one.job_id,
                tenant=one.tenant,
                workload=one.workload,
                workload_version="1",
                attempt=one.attempt,
                run_id=one.run_id,
                created_at=now(),
                duration_s=loop.time() - claimed_s,
                device=one.device,
                result={},
                artifacts=[],
            )

    async def _tell_more(self, one: Assignment) -> None:
        artifact = Artifact(
            name=f"{one.workload}.txt", key=f"results/{one.output_job_id}/a", bytes=3, sha256="a" * 64,
            media_type="text/plain",
        )  # fmt: skip
        run: dict[str, Any] = {"attempt": one.attempt, "run_id": one.run_id}
        await self._say(one, JobStageCompleted(**run, stage="work", duration_s=1.0), State.RUNNING)
        await self._say(one, JobArtifactReady(**run, artifact=artifact), State.RUNNING)

    def _fate(self, bill: Bill, one: Assignment, fate: random.Random) -> tuple[float, End]:
        """Draw how the run ends and after how long, and how much memory the job needs: the same for all its runs."""
        job = random.Random(f"{self.seed} {self.number(one.job_id)}")
        needed_gib = job.choice([4, 8, 12, 12, 20, 20, 30, 60])
        work_s = job.uniform(30, 400)
        ends: list[tuple[float, End]] = [(work_s, "user" if job.random() < 0.03 else "succeeds")]
        if needed_gib > MEMORY_GIB[one.device]:
            ends.append((fate.uniform(1, 20), "out_of_memory"))
        mishaps: tuple[tuple[float, End], ...] = ((0.04, "dies"), (0.02, "hangs"), (0.04, "preempted"))
        for share, mishap in mishaps:
            if fate.random() < share:
                ends.append((fate.uniform(1, work_s), mishap))
        if one.left_usd is not None and bill.obedient:
            left_s = one.left_usd / one.usd_per_s - bill.startup_s - 0.5
            ends.append((max(0.0, left_s), "capped"))
        return min(ends)

    async def _last_words(self, one: Assignment, bill: Bill, end: End) -> None:
        run: dict[str, Any] = {"attempt": one.attempt, "run_id": one.run_id}
        bill.until_s = asyncio.get_running_loop().time()
        seconds = bill.until_s - bill.since_s
        startup_s = min(seconds, bill.startup_s)
        cost = Cost(
            device=one.device, seconds=seconds, startup_s=startup_s, usd=round(seconds * one.usd_per_s, 6)
        )  # fmt: skip
        data: EventData
        match end:
            case "succeeds":
                data = JobSucceeded(**run, result={}, manifest_key="m", duration_s=seconds, cost=cost)
            case "user" | "capped":
                code = ErrorCode.COST_CAP_REACHED if end == "capped" else ErrorCode.CLIP_STATIC
                data = JobInterrupted(**run, failure="user", error=SaccadeError(code).body(), cost=cost)
            case "out_of_memory":
                error = SaccadeError(ErrorCode.OUT_OF_MEMORY, f"{one.device} is too small.").body()
                data = JobInterrupted(**run, failure="out_of_memory", error=error, cost=cost)
            case _:
                error = SaccadeError(ErrorCode.WORKER_LOST, "The worker was stopped.").body()
                data = JobInterrupted(**run, failure="preempted", error=error, cost=cost)
        await self._say(one, data, State.RUNNING)

    async def _say(self, one: Assignment, data: EventData, *allowed: State) -> bool:
        """Publish on condition that the job still is this run's; tells whether it was."""
        among = aggregate(one.tenant, "job", one.job_id)
        event_id = f"{one.run_id}.{data.type}"
        while True:
            job = fold_all(await self._store.load(among))
            if job is None or job.state not in allowed or not job.is_current_run(one.attempt, one.run_id):
                return False
            if isinstance(data, JobStarted) and job.cancel_requested:
                return False
            message = encode(
                data, tenant=one.tenant, subject_id=one.job_id, source="/worker/x", event_id=event_id, time=now()
            )  # fmt: skip
            try:
                await self._store.publish(message, after=job.sequence, among=among)
            except Conflict:
                continue
            return True


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for a stop; tells whether it came in time. Without tasks: there are tens of thousands of beats."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True


async def _unless_stopped(work: Any, stop: asyncio.Event) -> bool:
    """Do something unless it is stopped; tells whether it was done."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([doing, stopping], return_when=asyncio.FIRST_COMPLETED)
        return doing.done() and not stop.is_set()
    finally:
        await end(doing, stopping)
