"""Check of a window: each decision of the recorded dispatcher is taken again by today's, on what it knew then.

The record goes on with what was recorded, never with what is decided here, so that one difference does not lead to
others. Between its events, today's dispatcher is asked whether something was due that the record does not have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope, Message, decode
from contracts.ids import pipeline_id_of
from contracts.job import Job, State
from contracts.streams import aggregate
from contracts.workload import Workload
from services.dispatcher.budgets.on_budget import on_stored as on_budget_stored
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.dispatcher.scheduling.slot_pools import session_workloads, slot_limits
from services.whatif.account_history import AccountHistory
from services.whatif.dispatcher_presence import DispatcherPresence
from services.whatif.event_difference import difference
from services.whatif.excess_watch import ExcessWatch
from services.whatif.finding import Finding
from services.whatif.notice_check import NoticeCheck
from services.whatif.recorded_attempts import RecordedAttempts
from services.whatif.recorded_decision import RecordedDecisions, Step
from services.whatif.recorded_world import RecordedWorld
from services.whatif.refused_jobs import RefusedJobs
from services.whatif.replay_settings import ReplaySettings
from services.whatif.slot_check import SlotCheck
from services.whatif.stage_history import StageHistory
from services.whatif.virtual_time import VirtualLoop
from services.whatif.window import RecordedEvent, RecordedWindow

#: Events of jobs that other parts of a dispatcher publish; they are not compared.
NOT_COMPARED: Final = frozenset({"job.scratch_removed", "job.results_expired", "job.results_removed"})
#: Longest time that a dispatcher which is there may take, besides its polls and a change of leaders.
_REACTION_S: Final = 2.0
_LEAVES: Final = frozenset({"job.starting", "job.failed", "job.cancelled", "job.cancel_requested", "job.succeeded"})
#: Events after which nothing else is due than before.
_NO_CHANGE: Final = frozenset({"job.stage_completed", "job.artifact_ready"})
_BISECTIONS: Final = 12


class DecisionCheck:
    """One pass over a window."""

    def __init__(
        self, loop: VirtualLoop, window: RecordedWindow, workloads: Mapping[str, Workload], settings: ReplaySettings
    ) -> None:
        """Check ``window`` with these settings; it runs on ``loop``, whose time it sets."""
        self.findings: list[Finding] = []
        self.compared: Counter[str] = Counter()
        self.not_compared: Counter[str] = Counter()
        self._window = window
        self._workloads = workloads
        everything = [*window.before, *window.events]
        recorded = ReplaySettings(window.recorded_settings).dispatcher
        self._attempts = RecordedAttempts(everything, recorded.queue.throttled_s)
        self.world = RecordedWorld(loop, window.begin, workloads, settings, RefusedJobs(everything))
        self._decisions = RecordedDecisions(self.world, self._attempts, recorded.silent_s)
        self._lateness_s = recorded.poll_s + recorded.lease_s + _REACTION_S
        times = [event.at for event in everything if event.by_dispatcher and event.of_job]
        self._presence = DispatcherPresence(times, self._lateness_s)
        self._leaves: dict[str, list[tuple[int, datetime]]] = {}
        for event in everything:
            if event.envelope.type in _LEAVES:
                self._leaves.setdefault(event.envelope.subject, []).append((event.sequence, event.at))
        self._now = window.begin
        limits = slot_limits(settings.dispatcher)
        self.slots = SlotCheck(limits, self._is_held, self._leaves_at, session_workloads(workloads))
        self._position = 0
        self._accounts = AccountHistory(self.world.budgets)
        self._stages = StageHistory(self.world.jobs)
        self._notices = NoticeCheck(self.world.budgets)
        self._excess = ExcessWatch(self.world.budgets, self.world.rules.timeouts.reaction_s)
        #: When each job was last looked at or changed.
        self._looked_at: dict[str, datetime] = {}
        self._unknown: set[str] = set()
        self._has_begun = False
        #: Jobs of which nothing is known hold slots and budgets.
        self._begins_in_the_middle = False

    async def run(self) -> list[Finding]:
        """Check everything and return the findings, in the order of the record."""
        for event in self._window.before:
            self._fold(event)
        self._take_slots()
        self._unknown.clear()
        for position, event in enumerate(self._window.events):
            self._position = position
            self._now = event.at
            self.slots.pass_time(event.at)
            if event.of_job:
                await self._look_at(event)
            self._look_at_slots(event)
            self.findings += self._notices.before(event, self._presence)
            self._excess.look(event.envelope.tenant, self.world.jobs, event.at)
            self._accounts.before(event)
            self._stages.before(event)
            self._fold(event)
        self._now = self._window.end
        for job in self.world.jobs:
            await self._look_before(job, self._window.end, None)
        if self._begins_in_the_middle:
            self.findings = [replace(each, kind="unknown") if each.of_others else each for each in self.findings]
        return sorted(self.findings, key=lambda each: each.sequence)

    # ---- one event

    async def _look_at(self, event: RecordedEvent) -> None:
        envelope = event.envelope
        job = self.world.jobs.stage_job(envelope.subject)
        known = envelope.type == "job.submitted" or self._is_known(envelope.tenant, envelope.subject)
        if job is None and not known:
            self._begins_in_the_middle = True
            self._tell_unknown(event, "its first events are not in the window")
            return
        if (pipeline := pipeline_id_of(envelope.subject)) and not self._is_known(envelope.tenant, pipeline):
            self._tell_unknown(event, "its pipeline is not in the window")
            return
        if event.by_dispatcher and self._is_compared(event):
            self.compared[envelope.type] += 1
            await self._compare(event, job)
        if job is not None and not job.state.ended:
            await self._look_before(job, event.at, event)

    def _is_compared(self, event: RecordedEvent) -> bool:
        data = event.envelope.data
        by_rule = event.envelope.type == "job.submitted" and not data.get("part_of")
        if by_rule or event.envelope.type in NOT_COMPARED:
            self.not_compared[event.envelope.type] += 1
            return False
        return True

    def _is_known(self, tenant: str, job_id: str) -> bool:
        """Return whether a job is known from its first event on; one that has ended is not in memory."""
        events = self.world.store.of(aggregate(tenant, "job", job_id))
        return bool(events) and events[0].subject.endswith(".submitted")

    async def _compare(self, event: RecordedEvent, job: Job | None) -> None:
        envelope = event.envelope
        acting = self._acting(event, job)
        workload = self._workloads.get(acting.submitted.workload) if acting else None
        if acting is None or (workload is None and envelope.type not in ("job.failed", "job.interrupted")):
            why = "there is no such workload today" if acting else "its pipeline is not in the window"
            self._tell_unknown(event, why)
            return
        step = Step(acting, event, event.at)
        try:
            differences = await self._differences(step, workload)
            if None not in differences and self._is_of_pipeline(event, acting):
                # What it knew of its other jobs at that moment may have been older.
                for _ in self._stages.variants(event):
                    differences += await self._differences(step, workload)
                    if None in differences:
                        break
            if None not in differences and self._concerns_budget(event, differences):
                # What other jobs spent at that moment may have been seen earlier or later.
                for _ in self._accounts.variants(event, self._window.events[self._position + 1 :]):
                    differences += await self._differences(step, workload)
            if None not in differences and await self._may_be_delayed(step, workload):
                self._tell_unknown(event, "the delay that the executor asked for is not in the record")
                return
        except SaccadeError as error:
            self._tell_unknown(event, f"the step fails: {error.message}")
            return
        if None in differences:
            if envelope.type == "job.starting" and not self._is_pipeline(acting):
                self._check_slot(event, acting)
            return
        of_budget = self._concerns_budget(event, differences)
        self._tell_difference(event, next((each for each in differences if each), ""), of_others=of_budget)

    async def _differences(self, step: Step, workload: Workload | None) -> list[str | None]:
        """Return what differs, for each answer that is possible.

        Raises:
            SaccadeError: the step fails.
        """
        assert step.event
        answers = await self._decisions.again(step, workload)
        return [self._difference(step.event, answer, step.job) for answer in answers]

    async def _may_be_delayed(self, step: Step, workload: Workload | None) -> bool:
        """Return whether the decision follows from a delay that the record does not tell.

        Raises:
            SaccadeError: the step fails.
        """
        assert step.event
        answers = await self._decisions.with_a_long_delay(step, workload)
        return any(self._difference(step.event, answer, step.job) is None for answer in answers)

    def _is_of_pipeline(self, event: RecordedEvent, acting: Job) -> bool:
        return self._is_pipeline(acting) or pipeline_id_of(event.envelope.subject) is not None

    def _concerns_budget(self, event: RecordedEvent, differences: list[str | None]) -> bool:
        starts = event.envelope.type == "job.starting" and any("job.failed" in (each or "") for each in differences)
        return is_of_budget(event.envelope) or starts

    def _acting(self, event: RecordedEvent, job: Job | None) -> Job | None:
        """Return the job whose step an event came from: a pipeline submits, retries and cancels those of its stages."""
        envelope = event.envelope
        asked = envelope.type == "job.retrying" and envelope.data.get("after") == "asked"
        if envelope.type in ("job.submitted", "job.cancel_requested") or asked:
            return self.world.jobs.get(pipeline_id_of(envelope.subject) or "")
        return job

    def _difference(self, event: RecordedEvent, answer: Message | None, job: Job) -> str | None:
        if answer is None:
            return f"no {event.envelope.type} yet"
        attempt = self._attempts.by_run.get(job.run_id or str(event.envelope.data.get("run_id")))
        price = (attempt.usd_per_s if attempt else None) or 0.0
        return difference(event.envelope, decode(answer.body), price)

    def _check_slot(self, event: RecordedEvent, job: Job) -> None:
        if not self.slots.is_chosen(job, event.at):
            self._tell_difference(event, "another job, or none, gets this slot", of_others=True)

    # ---- what was due

    async def _look_before(self, job: Job, at: datetime, event: RecordedEvent | None) -> None:
        """Find out whether today's dispatcher would have acted on a job well before ``at``."""
        since = self._looked_at.get(job.id, job.updated_at or job.created_at)
        moment = at - timedelta(seconds=self._lateness_s)
        workload = self._workloads.get(job.submitted.workload)
        if moment <= since or workload is None or workload.kind == "pipeline" or self._is_being_launched(job, event):
            return
        decided = await self._due(job, moment)
        if decided is None:
            return
        envelope = decode(decided.body)
        late = await self._due_since(job, since, moment, is_of_budget(envelope))
        if late is None or late > moment:
            return
        today = f"{envelope.type} at {late:%Y-%m-%dT%H:%M:%SZ}"
        there = self._presence.was_there(late, at)
        recorded = event.envelope.type if event else "nothing by the end of the window"
        sequence = event.sequence if event else self._window.events[-1].sequence + 1
        why = today if there else f"{today}; no dispatcher may have led then"
        kind: Literal["different", "unknown"] = "different" if there else "unknown"
        what = (job.tenant, job.id, recorded, why)
        self.findings.append(Finding(kind, sequence, late, *what, late=not there, of_others=is_of_budget(envelope)))

    async def _due_since(self, job: Job, early: datetime, late: datetime, of_budget: bool) -> datetime | None:
        """Return since when today's dispatcher would have acted."""
        if of_budget:
            return self._excess.since(job.id)
        for _ in range(_BISECTIONS):
            middle = early + (late - early) / 2
            early, late = (early, middle) if await self._due(job, middle) else (middle, late)
        return late

    @staticmethod
    def _is_being_launched(job: Job, event: RecordedEvent | None) -> bool:
        """Return whether the launch may still be on its way: how long that takes is the executor's affair."""
        stopped = event is not None and event.by_dispatcher and event.envelope.type == "job.interrupted"
        return job.state is State.STARTING and job.call_id is None and not stopped

    async def _due(self, job: Job, moment: datetime) -> Message | None:
        try:
            return await self._decisions.due(Step(job, None, moment))
        except SaccadeError:
            return None

    def _look_at_slots(self, event: RecordedEvent) -> None:
        """Find jobs that today's queue started some time ago, and the record did not."""
        for job_id, (since, job) in list(self.slots.granted.items()):
            if not self._presence.was_there(since, event.at):
                continue
            leaves = self._leaves_at(job)
            if leaves is not None and leaves - since <= timedelta(seconds=self._lateness_s):
                continue
            today = f"job.starting at {since:%Y-%m-%dT%H:%M:%SZ}: a slot is free"
            self.findings.append(
                Finding(
                    "different", event.sequence, since, job.tenant, job_id, "waits for a slot", today, of_others=True
                )
            )
            self.slots.give_back(job_id, event.at)

    # ---- the record goes on

    def _fold(self, event: RecordedEvent) -> None:
        world, envelope = self.world, event.envelope
        world.store.add(event.stored, envelope.id)
        if not event.of_job:
            on_budget_stored(world.budgets, event.stored, None)
            return
        world.be_at(event.at)
        job = world.jobs.fold(envelope, event.sequence)
        on_budget_stored(world.budgets, event.stored, envelope)
        if job is None and envelope.type == "job.retrying":
            job = self._reloaded(envelope)
        if job is None:
            return
        if self._has_begun and not self._is_pipeline(job):
            self.slots.fold(job, event.at)
        if envelope.type not in _NO_CHANGE:
            self._looked_at[job.id] = event.at

    def _take_slots(self) -> None:
        """Begin the window: first the jobs that hold a slot by then, so that none is given away that seems free."""
        self._has_begun = True
        jobs = [job for job in self.world.jobs if not self._is_pipeline(job)]
        for job in sorted(jobs, key=lambda each: each.state in (State.SUBMITTED, State.QUEUED, State.RETRYING)):
            self.slots.fold(job, self._window.begin)

    def _reloaded(self, envelope: Envelope) -> Job | None:
        """Return a job that had ended and is retried, from all its events."""
        job = fold_all(self.world.store.of(aggregate(envelope.tenant, "job", envelope.subject)))
        return self.world.jobs.put(job) if job else None

    def _is_pipeline(self, job: Job) -> bool:
        workload = self._workloads.get(job.submitted.workload)
        return workload is not None and workload.kind == "pipeline"

    def _is_held(self, workload: str) -> bool:
        held = False
        for change in self._window.holds:
            if change.at <= self._now:
                held = change.drained or workload in change.paused
        return held

    def _leaves_at(self, job: Job) -> datetime | None:
        leaves = self._leaves.get(job.id, [])
        position = bisect_right(leaves, job.sequence, key=lambda each: each[0])
        return leaves[position][1] if position < len(leaves) else None

    def _tell_difference(self, event: RecordedEvent, today: str, *, of_others: bool = False) -> None:
        envelope = event.envelope
        what = (envelope.tenant, envelope.subject, envelope.type, today)
        self.findings.append(Finding("different", event.sequence, event.at, *what, of_others=of_others))

    def _tell_unknown(self, event: RecordedEvent, why: str) -> None:
        envelope = event.envelope
        if envelope.subject not in self._unknown:
            self._unknown.add(envelope.subject)
            self.findings.append(
                Finding("unknown", event.sequence, event.at, envelope.tenant, envelope.subject, envelope.type, why)
            )


def is_of_budget(envelope: Envelope) -> bool:
    """Return whether an event says that a budget does not allow something."""
    error = envelope.data.get("error")
    return isinstance(error, dict) and error.get("code") == ErrorCode.BUDGET_EXCEEDED
