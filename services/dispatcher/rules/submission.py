"""Submission of a rule's job, once, or the record why there is none, once; however often it is called."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.job import JobSubmitted
from contracts.events.rule import RuleSkipped
from contracts.rule import Rule
from contracts.streams import aggregate
from contracts.trace_context import new_trace
from contracts.upload import Upload
from kit.bus.event_store import Conflict, EventStore
from services.dispatcher.jobs.job_repository import SOURCE, NowFunction, utc_now
from services.dispatcher.rules.daily_count import Counted, DailyCount
from services.dispatcher.rules.rule_job import JobPlacement, rule_job
from services.dispatcher.rules.skipped_occasions import SkippedOccasions, skip_id

#: Errors after which the same call may succeed: no reason to give a job up.
TEMPORARY: Final = frozenset(
    {ErrorCode.BUS_UNAVAILABLE, ErrorCode.EVENTS_FULL, ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.INTERNAL}
)

#: Maximum pause after another skip of the same rule was stored first.
_CONFLICT_PAUSE_S: Final = 0.02

#: Returns why a tenant may not start a job of this cost now; None if it may.
Refusal = Callable[[str, float], SaccadeError | None]


def allow_all(_: str, __: float) -> SaccadeError | None:
    """Refuse nothing."""
    return None


@dataclass(frozen=True)
class Occasion:
    """One upload or one closed group, of which a rule makes one job."""

    job_id: str
    #: In the order in which they fill the inputs.
    upload_ids: tuple[str, ...]
    #: Sequence and time of the event that it follows from: ``upload.completed`` or ``group.closed``.
    sequence: int
    at: datetime
    group_id: str | None = None
    traceparent: str | None = None

    @property
    def name(self) -> str:
        """Return the id of the group or the upload."""
        return self.group_id or self.upload_ids[0]


class RuleSubmission:
    """Submits the jobs of rules."""

    def __init__(
        self,
        store: EventStore,
        counts: EventStore,
        placement: JobPlacement,
        *,
        refusal: Refusal = allow_all,
        clock: NowFunction = utc_now,
    ) -> None:
        """Write jobs to ``store``, the stream EVENTS, and their number to ``counts``, the stream RULECOUNTS."""
        self._store = store
        self._count = DailyCount(counts, self._exists)
        self._skipped = SkippedOccasions(store)
        self._refusal = refusal
        self._clock = clock
        self.placement = placement

    async def submit(self, rule: Rule, occasion: Occasion, uploads: Sequence[Upload]) -> None:
        """Submit the job of an occasion, or skip it; nothing happens if either was done before.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; call it again.
        """
        if await self._is_skipped(rule, occasion):
            return
        day = occasion.at.date()
        try:
            _check_all_there(occasion, uploads)
            job = rule_job(rule, uploads, self.placement, now=self._clock(), group_id=occasion.group_id)
            if error := self._refusal(rule.tenant, job.estimated_usd if job.max_cost_usd is None else job.max_cost_usd):
                raise error
        except SaccadeError as error:
            if error.code in TEMPORARY:
                raise
            if not await self._exists(rule.tenant, occasion.job_id):
                await self.skip(rule, occasion, error)
            return
        counted = await self._count.count(rule, day, occasion.job_id)
        if counted is Counted.FULL:
            await self.skip(rule, occasion, _limit_reached(rule, day.isoformat()))
        elif counted is Counted.GRANTED:
            await self._publish(rule, occasion, job)
            self._count.stored(rule, day, occasion.job_id)

    async def skip(self, rule: Rule, occasion: Occasion, error: SaccadeError) -> None:
        """Publish ``rule.skipped`` for an occasion, once; never after the rule was deleted.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        data = RuleSkipped(upload_ids=occasion.upload_ids, group_id=occasion.group_id, error=error.body())
        among = aggregate(rule.tenant, "rule", rule.id)
        while True:
            newest = await self._store.load(among)
            if any(stored.subject.endswith(".deleted") for stored in newest):
                return
            if await self._was_skipped(rule, occasion):
                return
            try:
                await self._encode_and_publish(
                    data,
                    rule.tenant,
                    rule.id,
                    skip_id(rule, occasion.name),
                    after=newest[-1].sequence if newest else 0,
                    among=among,
                    traceparent=occasion.traceparent,
                )
            except Conflict:
                await asyncio.sleep(random.uniform(0, _CONFLICT_PAUSE_S))  # noqa: S311 - spreads writers
                continue
            return

    async def _publish(self, rule: Rule, occasion: Occasion, job: JobSubmitted) -> None:
        """Publish ``job.submitted`` unless the job has an event already.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        try:
            await self._encode_and_publish(
                job,
                rule.tenant,
                occasion.job_id,
                f"{occasion.job_id}.submitted",
                after=0,
                among=aggregate(rule.tenant, "job", occasion.job_id),
                # The uploads of a group have several traces: its job begins one.
                traceparent=occasion.traceparent or str(new_trace()),
            )
        except Conflict:
            return

    async def _encode_and_publish(
        self,
        data: EventData,
        tenant: str,
        subject_id: str,
        event_id: str,
        *,
        after: int,
        among: str,
        traceparent: str | None,
    ) -> None:
        """Publish an event on a condition.

        Raises:
            Conflict: the last sequence is another one.
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = encode(
            data,
            tenant=tenant,
            subject_id=subject_id,
            source=SOURCE,
            event_id=event_id,
            time=self._clock(),
            traceparent=traceparent,
        )
        await self._store.publish(message, after=after, among=among)

    async def _exists(self, tenant: str, job_id: str) -> bool:
        """Return whether a job is stored.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return bool(await self._store.load(f"saccade.evt.{tenant}.job.{job_id}.submitted"))

    async def _is_skipped(self, rule: Rule, occasion: Occasion) -> bool:
        """Return whether an occasion was skipped; reads only if the rule has skipped anything since."""
        return rule.skipped_sequence > occasion.sequence and await self._was_skipped(rule, occasion)

    async def _was_skipped(self, rule: Rule, occasion: Occasion) -> bool:
        """Return whether the stream has ``rule.skipped`` for an occasion.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self._skipped.contains(rule, occasion.name, occasion.sequence)


def _check_all_there(occasion: Occasion, uploads: Sequence[Upload]) -> None:
    """Check that no upload's events are gone, by an erasure: the job would be one of fewer uploads than its group.

    Raises:
        SaccadeError: UPLOAD_ALREADY_ENDED.
    """
    if gone := set(occasion.upload_ids) - {upload.id for upload in uploads}:
        message = f"{', '.join(sorted(gone))} was erased and cannot be used."
        raise SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, message)


def _limit_reached(rule: Rule, day: str) -> SaccadeError:
    most = rule.definition.jobs_per_day
    return SaccadeError(ErrorCode.RULE_LIMIT_REACHED, f"The rule has submitted its {most} jobs of {day} (UTC).")
