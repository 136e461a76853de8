"""Carries out plans, one gateway at a time: letter by letter or job by job, each once, also if a process is killed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client

from contracts.audit import AuditRecord
from contracts.errors import ErrorCode, SaccadeError
from kit.bus.lease import Lease
from kit.tasks import first_of
from services.gateway.dead_letters.acts import DeadLetterActs
from services.gateway.dead_letters.letter import LetterState
from services.gateway.dead_letters.plan import (
    DONE,
    JOB_PLAN,
    LeftOut,
    Plan,
    PlanAction,
    PlanItems,
    PlannedLetter,
    letters_of,
)
from services.gateway.dead_letters.reader import DeadLetterReader

log = logging.getLogger(__name__)

#: Interval between two looks for plans: this process is told of its own ones.
_LOOK_S: Final = 5.0
#: Age at which a plan that is not wholly stored counts as given up.
_UNFROZEN: Final = timedelta(seconds=30)
#: Time for which a service that does not answer is asked again about one letter, and the pause in between.
_PATIENCE_S: Final = 120.0
_AGAIN_S: Final = 1.0
_FAILURES_NAMED: Final = 100
#: Errors that say nothing about the letter, or the job.
_TRANSIENT: Final = frozenset(
    {
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.EVENTS_FULL,
        ErrorCode.TIMED_OUT,
        ErrorCode.RATE_LIMITED,
    }
)


class PlanRunner:
    """Background work of every gateway; the one that holds the lease acts."""

    def __init__(self, client: Client, reader: DeadLetterReader, acts: DeadLetterActs, jobs: PlanItems) -> None:
        """Find plans by ``reader``, and letters that are open; ``jobs`` acts on the jobs of plans."""
        self._reader = reader
        self._jobs = jobs
        self._acts = acts
        self._lease = Lease(client, "dead_letters")
        self._planned = asyncio.Event()

    def wake(self) -> None:
        """Look for plans now."""
        self._planned.set()

    async def run(self) -> None:
        """Carry plans out until cancelled."""
        while True:
            try:
                await self._reader.catch_up()
                if any(self._open()):
                    await self._run_all()
            except SaccadeError as error:
                log.warning("plans of dead letters wait: %s", error.message)
            self._planned.clear()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._planned.wait()
            except TimeoutError:
                continue

    def _open(self) -> Iterator[Plan]:
        """Yield the open plans, those for jobs first: users wait for them."""
        yield from self._reader.job_plans.open()
        yield from self._reader.plans.open()

    async def _run_all(self) -> None:
        """Carry out the open plans while this process holds the lease."""
        await self._lease.acquire()
        try:
            await first_of(self._lease.keep(), self._run_open())
        finally:
            await self._lease.release()

    async def _run_open(self) -> None:
        await self._reader.catch_up()  # another gateway may have gone on until now
        for plan in list(self._open()):
            if plan.frozen:
                for intent in plan.open_parts:
                    await self._run_part(plan, intent)
            elif plan.began_at <= datetime.now(UTC) - _UNFROZEN:
                for intent in plan.open_parts:
                    details = {"meaning": "The plan was not wholly stored: nothing was changed. Send it again."}
                    await self._acts.audit.outcome(intent, f"{plan.action}_abandoned", details)

    async def _run_part(self, plan: Plan, intent: AuditRecord) -> None:
        counts: Counter[str] = Counter()
        failures: list[dict[str, str]] = []
        skips: list[dict[str, str]] = []
        items = self._jobs.items_of(intent) if plan.noun == JOB_PLAN else letters_of(intent)
        for planned in items:
            try:
                counts[await self._patiently(plan, intent, planned)] += 1
            except LeftOut as skipped:
                counts["skipped"] += 1
                skips.append(skipped.reason)
            except SaccadeError as error:
                if not self._lease.held:
                    raise
                counts["failed"] += 1
                failures.append({"id": planned.id, "code": error.code.value, "message": error.message[:200]})
        details: dict[str, Any] = {name: counts[name] for name in ("done", "failed", "skipped")}
        details["failures"] = failures[:_FAILURES_NAMED]
        if skips:
            details["skips"] = skips[:_FAILURES_NAMED]
        await self._acts.audit.outcome(intent, DONE[plan.action], details)
        await self._reader.catch_up()

    async def _patiently(self, plan: Plan, intent: AuditRecord, planned: Any) -> str:
        """Act on one letter or job if that was not done before; return ``done`` or ``skipped``.

        Raises:
            LeftOut: the job is not any more what the plan was made for.
            SaccadeError: as ``DeadLetterActs.perform``; BUS_UNAVAILABLE: another gateway goes on.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _PATIENCE_S
        while True:
            if not self._lease.held:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Another gateway goes on with the plan.")
            try:
                if isinstance(planned, PlannedLetter):
                    return await self._act(plan, intent, planned)
                await self._jobs.act(plan, intent, planned)
            except SaccadeError as error:
                if error.code not in _TRANSIENT or loop.time() >= end_s:
                    raise
                await asyncio.sleep(_AGAIN_S)
            else:
                return "done"

    async def _act(self, plan: Plan, intent: AuditRecord, planned: PlannedLetter) -> str:
        """Act on one letter if that was not done before; return ``done`` or ``skipped``.

        Raises:
            SaccadeError: as ``DeadLetterActs.perform``.
        """
        index = await self._reader.catch_up()
        letter = index.get(planned.id)
        if letter is None or letter.fault != planned.fault or index.state(letter) is not LetterState.OPEN:
            # Settled, or with a newer fault, which is not what the plan is for. If it has an intent on it, a process
            # that was killed since did it, and perhaps did not come to say so.
            return "done" if index.begun_by(planned.id) == plan.id else "skipped"
        outcome = index.outcome(letter)
        own = outcome is not None and outcome.plan == plan.id
        if own and outcome is not None and outcome.error_code not in (None, *_TRANSIENT):
            raise SaccadeError(ErrorCode.INTERNAL, "It failed again, before this process took the plan over.")
        action: PlanAction = "discard" if plan.action == "discard" else "redrive"
        await self._acts.perform(action, letter, intent.data, plan.id)
        return "done"
