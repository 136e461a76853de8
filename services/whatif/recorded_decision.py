"""One recorded decision, taken again: which facts a dispatcher knew of, and which step it took."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contracts.copies import copied
from contracts.events.base import Message
from contracts.job import Job, State
from contracts.limits import WORKER_HEARTBEAT_S
from contracts.manifest import Manifest
from contracts.workload import Workload
from services.dispatcher.executors.executor import CallBacklog, CallState, CallStatus, LaunchFailed, Throttled
from services.whatif.event_difference import TIME_TOLERANCE_S
from services.whatif.recorded_attempts import End, RecordedAttempt, RecordedAttempts
from services.whatif.recorded_world import Facts, RecordedWorld
from services.whatif.window import RecordedEvent


@dataclass(frozen=True)
class Step:
    """Step of a job that a decision came from."""

    job: Job
    #: The recorded event; None to look whether something was due.
    event: RecordedEvent | None
    at: datetime


class RecordedDecisions:
    """Takes decisions of the record again, with today's code."""

    def __init__(self, world: RecordedWorld, attempts: RecordedAttempts, recorded_silent_s: float) -> None:
        """``recorded_silent_s`` is the silence after which a worker counted as lost when it was recorded."""
        self._world = world
        self._attempts = attempts
        self._recorded_silent_s = recorded_silent_s

    async def again(self, step: Step, workload: Workload | None) -> list[Message | None]:
        """Return what today's dispatcher would publish; several answers where the record does not tell a fact.

        Raises:
            SaccadeError: the step fails.
        """
        assert step.event
        world, event, job = self._world, step.event, step.job
        world.be_at(step.at)
        attempt = self._attempts.by_run.get(job.run_id or "")
        if workload and (refusal := self._refusal(event, job, attempt)):
            refused = await world.refuse_launch(job, workload, refusal)
            world.forget(job.id)
            return [refused]
        found: list[Message | None] = []
        for granted in self._grants(event, job):
            for prices in self._prices(event, job):
                world.lifecycle.prices.update(prices)
                self._remember_delay(job, attempt)
                world.set_facts(self._facts(step, attempt))
                target = f"saccade.evt.{event.envelope.tenant}.job.{event.envelope.subject}"
                found.append(await world.decide(job, granted=granted, target=target))
        return found

    async def due(self, step: Step) -> Message | None:
        """Return what today's dispatcher would have published by a time at which the record has nothing.

        Raises:
            SaccadeError: the step fails.
        """
        self._world.be_at(step.at)
        attempt = self._attempts.by_run.get(step.job.run_id or "")
        self._remember_delay(step.job, attempt)
        self._world.set_facts(self._facts(step, attempt))
        target = f"saccade.evt.{step.job.tenant}.job.{step.job.id}"
        return await self._world.decide(step.job, granted=False, target=target)

    def _grants(self, event: RecordedEvent, job: Job) -> tuple[bool, ...]:
        if event.envelope.type == "job.starting":
            return (True,)
        waits = job.state in (State.QUEUED, State.RETRYING)
        return (False, True) if waits and event.envelope.type in ("job.failed", "job.cancelled") else (False,)

    @staticmethod
    def _refusal(event: RecordedEvent, job: Job, attempt: RecordedAttempt | None) -> LaunchFailed | None:
        if event.envelope.type != "job.interrupted" or attempt is None or job.state is not State.STARTING:
            return None
        if attempt.end is End.THROTTLED:
            return _throttled(attempt)
        return LaunchFailed(attempt.message) if attempt.end is End.REFUSED else None

    async def with_a_long_delay(self, step: Step, workload: Workload | None) -> list[Message | None]:
        """Return what today's dispatcher would publish if the executor had asked for a delay beyond the deadline.

        Nothing where the record tells the delay, or where none was asked for.

        Raises:
            SaccadeError: the step fails.
        """
        job, attempt = step.job, self._attempts.by_run.get(step.job.run_id or "")
        refused = job.state is State.INTERRUPTED and attempt is not None and attempt.end is End.THROTTLED
        if not refused or attempt is None or attempt.tells_delay:
            return []
        left_s = ((job.deadline or job.submitted.deadline) - step.at).total_seconds()
        self._world.jobs.put(copied(job, retry_after_s=max(0.0, left_s)))
        try:
            return await self.again(step, workload)
        finally:
            self._world.jobs.put(job)

    def _remember_delay(self, job: Job, attempt: RecordedAttempt | None) -> None:
        """Set the delay that an executor asked for, where the event of its refusal does not have it."""
        if job.state is State.INTERRUPTED and attempt and attempt.retry_after_s is not None:
            self._world.jobs.put(copied(job, retry_after_s=attempt.retry_after_s))

    def _prices(self, event: RecordedEvent, job: Job) -> list[dict[str, float]]:
        """Return the account's prices, as far as the record tells: the last ones, and the next, of each device."""
        settings = self._world.settings
        if settings.account_prices or not self._attempts.prices:
            return [settings.account_prices]
        last: dict[str, float] = {}
        following: dict[str, float] = {}
        for device, told in self._attempts.prices.items():
            position = bisect_right(told, event.at, key=lambda each: each[0])
            if position:
                last[device] = told[position - 1][1]
            following[device] = told[min(position, len(told) - 1)][1]
        data = event.envelope.data
        if event.envelope.type == "job.starting" and data.get("usd_per_s") is not None:
            last[data["device"]] = data["usd_per_s"]
            return [last]
        if job.submitted.max_cost_usd is None:
            return [last]
        return [last, {**last, **following}, {}]

    def _facts(self, step: Step, attempt: RecordedAttempt | None) -> Facts:
        """Return what was known of the worker: all was well with it until the record says otherwise."""
        event, job = step.event, step.job
        world = self._world
        facts = Facts()
        if event and event.envelope.type == "job.starting":
            facts.run_id = event.envelope.data["run_id"]
        if attempt is None:
            return facts
        facts.call_id = job.call_id
        if event and event.envelope.type == "job.launched" and event.envelope.subject == job.id:
            facts.call_id = event.envelope.data["call_id"]
        if event and event.envelope.type == "job.waiting_for_gpu":
            data = event.envelope.data
            facts.backlog = None if data.get("backlog") is None else CallBacklog(data["backlog"], data["workers"])
        if event and event is attempt.ended:
            self._add_end(facts, attempt, job)
        heartbeat = step.at
        if attempt.end is End.SILENT and attempt.ended:
            heartbeat = min(heartbeat, attempt.ended.at - timedelta(seconds=self._recorded_silent_s))
        seconds = (heartbeat - step.at).total_seconds() + world.seconds
        world.jobs.record_heartbeat(job.id, attempt.run_id, seconds)
        world.lifecycle.listening_since_s = min(seconds, world.seconds)
        return facts

    @staticmethod
    def _add_end(facts: Facts, attempt: RecordedAttempt, job: Job) -> None:
        assert attempt.ended
        data = attempt.ended.envelope.data
        if attempt.end is End.GONE:
            # That nobody told why is a worker that is lost, or was never there; those need no class.
            told: Any = attempt.failure if attempt.failure != "not_started" else None
            facts.status = CallStatus(CallState.ENDED, None, attempt.message, told)
        settled_at = _settled_at(attempt, job)
        if settled_at is not None and settled_at < attempt.ended.at - timedelta(seconds=TIME_TOLERANCE_S):
            # Its worker was gone when it was looked at; of one that is cancelled nothing else tells.
            facts.last_sign = settled_at - timedelta(seconds=WORKER_HEARTBEAT_S)
            if attempt.end is End.STOPPED:
                facts.status = CallStatus(CallState.ENDED)
        if attempt.end is End.RECOVERED:
            facts.status = CallStatus(CallState.ENDED, 0)
            facts.manifest = Manifest(
                job_id=job.id,
                tenant=job.tenant,
                workload=job.submitted.workload,
                workload_version=job.submitted.workload_version,
                attempt=attempt.number,
                run_id=attempt.run_id,
                created_at=attempt.ended.at,
                duration_s=data["duration_s"],
                device=attempt.device,
                result=data["result"],
                artifacts=[],
            )


def _settled_at(attempt: RecordedAttempt, job: Job) -> datetime | None:
    """Return the time up to which the recorded cost of an attempt counts; None if nothing was settled."""
    cost = attempt.ended.envelope.data.get("cost") if attempt.ended else None
    since = job.billed_since or job.started_at
    return since + timedelta(seconds=cost["seconds"]) if cost and since else None


def _throttled(attempt: RecordedAttempt) -> LaunchFailed:
    """Return the refusal of a launch; one whose delay the record does not tell says 0."""
    return Throttled(attempt.message, attempt.retry_after_s or 0.0)
