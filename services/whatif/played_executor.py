"""Executor of a simulation: its workers do what the record tells of their attempt, or what the model says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.assignment import Assignment
from contracts.cost_settlement import settled_cost
from contracts.events.base import EventData, encode
from contracts.events.job import JobInterrupted, JobStarted, JobSucceeded
from contracts.job import State
from contracts.streams import aggregate
from contracts.workload import Compute
from kit.bus.event_store import Conflict
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, Throttled
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.whatif.attempt_model import AttemptModel, startup_s
from services.whatif.memory_store import MemoryStore
from services.whatif.recorded_attempts import End, RecordedAttempt, RecordedAttempts
from services.whatif.recorded_world import ladder
from services.whatif.replay_settings import ReplaySettings

Heard = Callable[[str, str], None]


@dataclass
class _Call:
    assignment: Assignment
    attempt: RecordedAttempt | None
    task: asyncio.Task[None] | None = None
    #: It sends heartbeats.
    is_heard: bool = True
    ended: CallStatus | None = None


class PlayedExecutor:
    """An ``Executor`` without containers."""

    def __init__(
        self,
        *,
        settings: ReplaySettings,
        store: MemoryStore,
        attempts: RecordedAttempts,
        model: AttemptModel,
        now: Callable[[], datetime],
        hear: Heard,
    ) -> None:
        """Publish into ``store`` what the workers say; ``hear`` is called with each heartbeat."""
        self._settings, self._store, self._attempts, self._model = settings, store, attempts, model
        self._now, self._hear = now, hear
        self._calls: dict[str, _Call] = {}
        self.name = "modal" if settings.dispatcher.runs_on_modal else "local"
        self.queues = settings.dispatcher.runs_on_modal
        #: Runs of which something is modelled.
        self.modelled: set[str] = set()

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Return the devices of a workload's ladder."""
        return ladder(self._settings, compute, gpu)

    async def rates(self) -> Mapping[str, float]:
        """Return nothing: prices come from the record."""
        return {}

    async def launch(self, assignment: Assignment, compute: Compute) -> str:  # noqa: ARG002
        """Launch as recorded.

        Raises:
            LaunchFailed, Throttled: it was refused then.
        """
        attempt = self._attempts.of(assignment.job_id, assignment.attempt)
        if attempt and attempt.device != assignment.device:
            attempt = None
        if attempt is None:
            self.modelled.add(assignment.run_id)
        elif attempt.launched_at:
            await asyncio.sleep(max(0.0, (attempt.launched_at - attempt.starting_at).total_seconds()))
        elif attempt.end is End.THROTTLED:
            raise Throttled(attempt.message, attempt.retry_after_s or self._settings.dispatcher.queue.throttled_s)
        elif attempt.end is End.REFUSED:
            raise LaunchFailed(attempt.message)
        call_id = f"call-{assignment.run_id}"
        call = self._calls[call_id] = _Call(assignment, attempt)
        call.task = asyncio.create_task(self._work(call))
        return call_id

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:  # noqa: ARG002
        """Return the status; a worker at work has just sent a heartbeat."""
        call = self._calls.get(call_id)
        if call is None:
            return CallStatus(CallState.ENDED, None, "No such call.", "lost")
        if call.ended is None and call.is_heard:
            self._hear(call.assignment.job_id, call.assignment.run_id)
        return call.ended or CallStatus(CallState.RUNNING)

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:  # noqa: ARG002
        """Return nothing: it decides nothing."""
        return None

    async def cancel(self, call_id: str) -> None:
        """Stop a worker."""
        if (call := self._calls.get(call_id)) and call.task:
            call.task.cancel()
            call.ended = call.ended or CallStatus(CallState.ENDED, None, "It was stopped.", "lost")

    async def find(self, run_id: str) -> str | None:
        """Return the call of a run."""
        call_id = f"call-{run_id}"
        return call_id if call_id in self._calls else None

    async def clear_cache(self, job_id: str) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """End all workers."""
        tasks = [call.task for call in self._calls.values() if call.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- workers

    async def _work(self, call: _Call) -> None:
        each, attempt = call.assignment, call.attempt
        model = self._model.attempt(each.workload, each.device)
        if attempt is None or attempt.started_at is None:
            await self._begin_late(call, model.wait_s)
            startup = model.startup_s
        else:
            offset = (attempt.started_at - (attempt.launched_at or attempt.starting_at)).total_seconds()
            await asyncio.sleep(max(0.0, offset))
            startup = startup_s(attempt)
        if call.ended is not None:
            return
        started_at = self._now()
        known = attempt.started if attempt else {}
        started = JobStarted(
            attempt=each.attempt,
            run_id=each.run_id,
            device=known.get("device", each.device),
            worker="replay",
            call_id=f"call-{each.run_id}",
            billed_since=started_at - timedelta(seconds=startup),
        )
        if not await self._say(each, started, "started", State.STARTING, State.WAITING_FOR_GPU):
            call.ended = CallStatus(CallState.ENDED, 0)
            return
        self._hear(each.job_id, each.run_id)
        await self._end(call, startup, model.work_s)

    async def _begin_late(self, call: _Call, wait_s: float) -> None:
        """Begin where the record has no begin: after the time that the dispatcher waited then, by the model."""
        attempt = call.attempt
        if attempt and attempt.end is End.GONE and attempt.ended:
            await asyncio.sleep(max(0.0, (attempt.ended.at - attempt.starting_at).total_seconds()))
            call.ended = _gone(attempt)
            return
        if attempt and attempt.ended:
            await asyncio.sleep(max(0.0, (attempt.ended.at - attempt.starting_at).total_seconds()))
        self.modelled.add(call.assignment.run_id)
        await asyncio.sleep(wait_s)

    async def _end(self, call: _Call, startup: float, work_s: float) -> None:
        each, attempt = call.assignment, call.attempt
        begun = self._now()
        if attempt is None or attempt.ended is None or attempt.started_at is None:
            self.modelled.add(each.run_id)
            await asyncio.sleep(work_s)
            await self._succeed(call, {}, startup, begun)
            return
        await asyncio.sleep(max(0.0, (attempt.ended.at - attempt.started_at).total_seconds()))
        data: dict[str, Any] = dict(attempt.ended.envelope.data)
        match attempt.end:
            case End.BY_WORKER if attempt.ended.envelope.type == "job.succeeded":
                await self._succeed(call, data, startup, begun)
            case End.BY_WORKER:
                run = {"attempt": each.attempt, "run_id": each.run_id, "cost": self._cost(call, data, startup, begun)}
                await self._say(each, JobInterrupted(**{**data, **run}), "interrupted", State.RUNNING)
                call.ended = CallStatus(CallState.ENDED, 10)
            case End.RECOVERED:
                await self._succeed(call, data, startup, begun)
            case End.SILENT:
                call.is_heard = False
                await asyncio.sleep(1e7)
            case End.GONE:
                call.ended = _gone(attempt)
            case _:  # the dispatcher stopped it then; left alone, it works on
                self.modelled.add(each.run_id)
                await asyncio.sleep(max(1.0, work_s - (self._now() - begun).total_seconds()))
                await self._succeed(call, {}, startup, begun)

    async def _succeed(self, call: _Call, data: Mapping[str, Any], startup: float, begun: datetime) -> None:
        each = call.assignment
        succeeded = JobSucceeded(
            attempt=each.attempt,
            run_id=each.run_id,
            result=data.get("result", {}),
            manifest_key=data.get("manifest_key", "replayed"),
            duration_s=data.get("duration_s", (self._now() - begun).total_seconds()),
            cost=self._cost(call, data, startup, begun),
        )
        await self._say(each, succeeded, "succeeded", State.RUNNING)
        call.ended = CallStatus(CallState.ENDED, 0)

    def _cost(self, call: _Call, data: Mapping[str, Any], startup: float, begun: datetime) -> Any:
        """Return the cost of a run: the recorded seconds, at the price of this launch."""
        each, told = call.assignment, data.get("cost")
        seconds = told["seconds"] if isinstance(told, dict) else startup + (self._now() - begun).total_seconds()
        same_price = call.attempt and call.attempt.usd_per_s == each.usd_per_s
        if isinstance(told, dict) and same_price and each.run_id not in self.modelled:
            return told
        return settled_cost(each.device, each.usd_per_s, seconds, startup_s=min(seconds, startup))

    async def _say(self, each: Assignment, data: EventData, verb: str, *allowed: State) -> bool:
        """Publish on condition that the job still is this run's; tells whether it was."""
        among = aggregate(each.tenant, "job", each.job_id)
        job = fold_all(await self._store.load(among))
        if job is None or job.state not in allowed or not job.is_current_run(each.attempt, each.run_id):
            return False
        if verb == "started" and job.cancel_requested:
            return False
        message = encode(
            data,
            tenant=each.tenant,
            subject_id=each.job_id,
            source="/worker/replay",
            event_id=f"{each.run_id}.{verb}",
            time=self._now(),
            traceparent=each.traceparent,
        )
        try:
            await self._store.publish(message, after=job.sequence, among=among)
        except Conflict:
            return False  # something else was first; the dispatcher finds out
        return True


def _gone(attempt: RecordedAttempt) -> CallStatus:
    told: Any = attempt.failure if attempt.failure != "not_started" else None
    return CallStatus(CallState.ENDED, None, attempt.message, told)
