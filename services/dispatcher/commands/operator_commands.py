"""The dispatcher's commands, one method each, named as the verb. Only the dispatcher that leads carries them out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from typing import Any

from contracts.audit import SYSTEM, Act, Attribution
from contracts.commands import (
    Change,
    CommandSender,
    DeadLetterDiscarded,
    DeadLetterRedriven,
    DiscardDeadLetter,
    Drain,
    Drained,
    GetStatus,
    JobRefolded,
    LeaseRotated,
    PauseWorkload,
    RedriveDeadLetter,
    RefoldJob,
    Resume,
    Resumed,
    ResumeWorkload,
    RotateLease,
    Status,
    WorkloadPaused,
    WorkloadResumed,
)
from contracts.errors import ErrorCode, SaccadeError
from kit.bus.audit_log import AuditLog
from kit.bus.dead_letters import DeadLetters
from kit.bus.recorded_act import recorded
from services.dispatcher.commands.dead_letter_service import letter_act
from services.dispatcher.commands.job_refolder import JobRefolder, differences
from services.dispatcher.commands.letter_redrives import LetterRedrives
from services.dispatcher.scheduling.holds import drain_act, workload_act
from services.dispatcher.scheduling.reconciler import Reconciler

#: Hands the lease over; returns the ids of the holders before and after.
RotateFunction = Callable[[], Awaitable[tuple[str, str]]]


class OperatorCommands:
    """Carries out commands. Acts on the same thing follow each other."""

    def __init__(
        self,
        audit: AuditLog,
        reconciler: Reconciler,
        refolder: JobRefolder,
        letters: DeadLetters,
        redrives: LetterRedrives,
        *,
        workloads: Container[str],
        load_holds: Callable[[], Awaitable[None]],
        rotate: RotateFunction,
    ) -> None:
        """``load_holds`` reads what is held back from the audit log, and has the reconciler follow it."""
        self._audit = audit
        self._reconciler = reconciler
        self._refolder = refolder
        self._letters = letters
        self._redrives = redrives
        self._workloads = workloads
        self._load_holds = load_holds
        self._rotate = rotate
        self._lock = asyncio.Lock()

    async def status(self, _: GetStatus, __: CommandSender) -> Status:
        """Return what is held back, and how many jobs run and wait."""
        holds, counts = self._reconciler.holds, self._reconciler.counts()
        return Status(drained=holds.drained, paused=dict(holds.paused), running=counts.running, waiting=counts.waiting)

    async def drain(self, request: Drain, sender: CommandSender) -> Drained:
        """Launch nothing new."""
        record = await self._hold(request, sender, drain_act(), "drain", "drained")
        counts = self._reconciler.counts()
        return Drained(record=record, running=counts.running, waiting=counts.waiting)

    async def resume(self, request: Resume, sender: CommandSender) -> Resumed:
        """Launch jobs again."""
        waiting = self._reconciler.counts().waiting
        record = await self._hold(request, sender, drain_act(), "resume", "resumed")
        return Resumed(record=record, waiting=waiting, paused=sorted(self._reconciler.holds.paused))

    async def pause_workload(self, request: PauseWorkload, sender: CommandSender) -> WorkloadPaused:
        """Keep a workload's jobs queued."""
        self._check_workload(request.workload)
        record = await self._hold(request, sender, workload_act(request.workload), "pause", "paused")
        counts = self._reconciler.counts(request.workload)
        return WorkloadPaused(record=record, workload=request.workload, running=counts.running, waiting=counts.waiting)

    async def resume_workload(self, request: ResumeWorkload, sender: CommandSender) -> WorkloadResumed:
        """Start a paused workload's jobs again."""
        # Also one that this version does not know any more: else it could never be resumed.
        if request.workload not in self._reconciler.holds.paused:
            self._check_workload(request.workload)
        waiting = self._reconciler.counts(request.workload).waiting
        record = await self._hold(request, sender, workload_act(request.workload), "resume", "resumed")
        return WorkloadResumed(record=record, workload=request.workload, waiting=waiting)

    async def rotate_lease(self, request: RotateLease, sender: CommandSender) -> LeaseRotated:
        """Hand over to a standby."""
        holders: list[str] = []

        async def perform() -> dict[str, Any]:
            holders.extend(await self._rotate())
            return {"before": holders[0], "after": holders[1]}

        act = Act(SYSTEM, "lease", "dispatcher")
        outcome = await recorded(
            self._audit, _attribution(request, sender), act, verb="rotate", done="rotated", perform=perform
        )
        return LeaseRotated(record=outcome.sequence, before=holders[0], after=holders[1])

    async def refold_job(self, request: RefoldJob, sender: CommandSender) -> JobRefolded:
        """Fold a job from its history again."""
        tenant = await self._refolder.tenant_of(request.job_id)
        answers: list[JobRefolded] = []

        async def perform() -> dict[str, Any]:
            job, before = await self._refolder.refold(request.job_id, tenant)
            answer = JobRefolded(
                record=0,
                job_id=job.id,
                state=job.state.value,
                attempt=job.attempt,
                sequence=job.sequence,
                in_memory=before is not None,
                differences=differences(before, job),
            )
            answers.append(answer)
            return {"state": answer.state, "differences": [difference.field for difference in answer.differences]}

        act = Act(tenant, "job", request.job_id)
        outcome = await recorded(
            self._audit, _attribution(request, sender), act, verb="refold", done="refolded", perform=perform
        )
        return answers[0].model_copy(update={"record": outcome.sequence})

    async def redrive_dead_letter(self, request: RedriveDeadLetter, sender: CommandSender) -> DeadLetterRedriven:
        """Handle a dead letter again, unless that was done before. It is kept; the record is what hides it."""
        if request.dry_run:
            return await self._redrives.look(request.dead_letter)
        if not request.why:
            raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "why: a reason is needed.", hint="Say why in the request.")
        return await self._redrives.redrive(request.dead_letter, _attribution(request, sender))

    async def discard_dead_letter(self, request: DiscardDeadLetter, sender: CommandSender) -> DeadLetterDiscarded:
        """Set a dead letter aside: the record of it is what hides it."""
        async with self._redrives.lock:
            letter = await self._letters.get(request.dead_letter)
            attribution = _attribution(request, sender)
            outcome = await recorded(self._audit, attribution, letter_act(letter), verb="discard", done="discarded")
        return DeadLetterDiscarded(record=outcome.sequence, dead_letter=letter.number)

    async def _hold(self, request: Change, sender: CommandSender, act: Act, verb: str, done: str) -> int:
        """Record an order and follow it; its outcome is the state."""
        async with self._lock:
            outcome = await recorded(self._audit, _attribution(request, sender), act, verb=verb, done=done)
            await self._load_holds()
        return outcome.sequence

    def _check_workload(self, workload: str) -> None:
        if workload not in self._workloads:
            raise SaccadeError(
                ErrorCode.UNKNOWN_WORKLOAD,
                f"This dispatcher does not know the workload {workload!r}.",
                hint="`saccade workloads` lists the workloads; stages of pipelines are workloads too.",
            )


def _attribution(request: Change | RedriveDeadLetter, sender: CommandSender) -> Attribution:
    """Return who asks: NATS's user where it is known, else what the request says."""
    return Attribution(
        by=sender.user or request.by or "unknown",
        by_verified=sender.user is not None,
        why=request.why,
        request_id=request.request_id,
    )
