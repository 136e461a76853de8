"""An executor for awkward timings: its workers are coroutines that a test writes, with real events on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.job import (
    Cost,
    FailureClass,
    JobInterrupted,
    JobProgressed,
    JobStarted,
    JobSucceeded,
)
from contracts.job import State
from contracts.manifest import Manifest
from contracts.streams import aggregate
from contracts.workload import Compute
from kit.bucket import Bucket
from kit.bus.event_store import Conflict, EventStore
from kit.tasks import end
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed
from services.dispatcher.jobs.unfinished_jobs import fold_all


class Killed(Exception):  # noqa: N818 - it is what happens to the worker
    """Raised in a script: the worker dies without a word."""


class Worker:
    """What a script can do as the worker of one attempt."""

    def __init__(self, assignment: Assignment, store: EventStore, bucket: Bucket) -> None:
        self.assignment = assignment
        self.store = store
        self.bucket = bucket
        self.asked_to_stop = asyncio.Event()
        self.started_at = 0.0

    async def say(self, data: EventData, verb: str, allowed: State) -> bool:
        """Publish on condition that the job still is this run's and in a state; tells whether it was."""
        one = self.assignment
        among = aggregate(one.tenant, "job", one.job_id)
        while True:
            job = fold_all(await self.store.load(among))
            if job is None or job.state is not allowed or not job.is_current_run(one.attempt, one.run_id):
                return False
            if verb == "started" and job.cancel_requested:
                return False
            message = encode(
                data,
                tenant=one.tenant,
                subject_id=one.job_id,
                source=f"/worker/{one.run_id}",
                event_id=f"{one.run_id}.{verb}",
            )
            try:
                await self.store.publish(message, after=job.sequence, among=among)
            except Conflict:
                continue
            return True

    async def claim(self) -> bool:
        one = self.assignment
        self.started_at = asyncio.get_running_loop().time()
        data = JobStarted(attempt=one.attempt, run_id=one.run_id, device=one.device, worker=f"scripted-{id(self)}")
        return await self.say(data, "started", State.STARTING)

    async def beat(self) -> None:
        one = self.assignment
        data = JobProgressed(attempt=one.attempt, run_id=one.run_id, stage="work", fraction=0.5, stage_fraction=0.5)
        message = encode(data, tenant=one.tenant, subject_id=one.job_id, source=f"/worker/{one.run_id}")
        await self.store.client.publish(message.subject, message.body)

    def cost(self) -> Cost:
        seconds = asyncio.get_running_loop().time() - self.started_at
        return Cost(device=self.assignment.device, seconds=seconds, usd=seconds * self.assignment.usd_per_s)

    async def leave_manifest(self) -> str:
        one = self.assignment
        manifest = Manifest(
            job_id=one.job_id,
            tenant=one.tenant,
            workload=one.workload,
            workload_version="1",
            attempt=one.attempt,
            run_id=one.run_id,
            created_at=datetime.now(UTC),
            duration_s=1.5,
            device=one.device,
            result={"answer": 42},
            artifacts=[],
        )
        key = self.bucket.key("results", one.job_id, "manifest.json")
        await self.bucket.put(key, manifest.model_dump_json().encode())
        return key

    async def succeed(self) -> bool:
        one = self.assignment
        data = JobSucceeded(
            attempt=one.attempt,
            run_id=one.run_id,
            result={"answer": 42},
            manifest_key=await self.leave_manifest(),
            duration_s=1.5,
            cost=self.cost(),
        )
        return await self.say(data, "succeeded", State.RUNNING)

    async def interrupted(self, failure: FailureClass, code: ErrorCode, message: str = "") -> bool:
        one = self.assignment
        data = JobInterrupted(
            attempt=one.attempt,
            run_id=one.run_id,
            failure=failure,
            error=SaccadeError(code, message).body(),
            cost=self.cost(),
        )
        return await self.say(data, "interrupted", State.RUNNING)

    async def work_until_stopped(self) -> None:
        """Beat until asked to stop, then say so."""
        while not self.asked_to_stop.is_set():
            await self.beat()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.asked_to_stop.wait(), 0.1)
        await self.interrupted("preempted", ErrorCode.WORKER_LOST, "The worker was asked to stop.")


Script = Callable[[Worker], Awaitable[None]]


async def works(worker: Worker) -> None:
    """The script of a worker that does its work."""
    if await worker.claim():
        await worker.succeed()


class ScriptedExecutor:
    """Runs scripts; the first attempts of a job get those of ``scripts`` in turn, later ones the last."""

    name = "scripted"
    queues = False

    def __init__(self, store: EventStore, bucket: Bucket, *scripts: Script, grace_s: float = 0.3) -> None:
        self.scripts = list(scripts) or [works]
        self.launched: list[Assignment] = []
        self.cancelled: list[str] = []
        self.workers: dict[str, Worker] = {}
        self._store = store
        self._bucket = bucket
        self._grace_s = grace_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: Attempts that cannot be started, by number.
        self.refused: set[int] = set()
        #: Jobs whose cache was to be removed, in order; while it is away nothing is.
        self.cleared: list[str] = []
        self.cache_is_away = False

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        return (gpu,) if gpu else compute.gpus or ("cpu",)

    async def rates(self) -> dict[str, float]:
        return {}

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002
        return None

    async def launch(self, assignment: Assignment, compute: Compute) -> str:  # noqa: ARG002
        self.launched.append(assignment)
        if assignment.attempt in self.refused:
            raise LaunchFailed("The disk is full: free some space.")
        worker = Worker(assignment, self._store, self._bucket)
        script = self.scripts[min(assignment.attempt, len(self.scripts)) - 1]
        call_id = f"call-{assignment.run_id}"
        self.workers[call_id] = worker
        self._tasks[call_id] = asyncio.create_task(self._run(script, worker))
        return call_id

    async def _run(self, script: Script, worker: Worker) -> None:
        await script(worker)

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:  # noqa: ARG002
        task = self._tasks.get(call_id)
        if task is None:
            return CallStatus(CallState.ENDED, None, "No such call.", "lost")
        if not task.done():
            return CallStatus(CallState.RUNNING)
        if task.cancelled() or isinstance(task.exception(), Killed):
            return CallStatus(CallState.ENDED, 137, "The worker was killed.", "lost")
        if error := task.exception():
            return CallStatus(CallState.ENDED, 1, f"The worker broke: {error!r}.", "broken")
        return CallStatus(CallState.ENDED, 0)

    async def cancel(self, call_id: str) -> None:
        task = self._tasks.get(call_id)
        if task is None or task.done():
            return
        self.cancelled.append(call_id)
        self.workers[call_id].asked_to_stop.set()
        await asyncio.wait([task], timeout=self._grace_s)
        await self.kill(call_id)

    async def kill(self, call_id: str) -> None:
        """Kill -9."""
        task = self._tasks[call_id]
        await end(task)

    async def find(self, run_id: str) -> str | None:
        call_id = f"call-{run_id}"
        return call_id if call_id in self._tasks else None

    async def clear_cache(self, job_id: str) -> None:
        self.cleared.append(job_id)
        if self.cache_is_away:
            raise SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, "Nobody answers.")

    async def close(self) -> None:
        return None

    def at_work(self) -> list[str]:
        return [call_id for call_id, task in self._tasks.items() if not task.done()]

    async def end(self) -> None:
        """End of the test."""
        await end(*self._tasks.values())
