"""Upload rules of one dispatcher: what follows from a completed upload, and what the leader does besides."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import encode
from contracts.events.rule import RuleUpdated
from contracts.ids import derived_id
from contracts.rule import Rule
from contracts.rule_matching import group_value, matches
from contracts.streams import aggregate
from contracts.upload import Upload
from kit.bus.event_store import Conflict, EventStore
from kit.bus.tail import EventTail
from kit.history.history import History
from kit.tasks import first_of
from services.dispatcher.jobs.job_repository import SOURCE, NowFunction, utc_now
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.rules.artifact_jobs import ArtifactJobs
from services.dispatcher.rules.group_book import GroupBook
from services.dispatcher.rules.group_closing import GroupClosing
from services.dispatcher.rules.group_members import GroupMembers
from services.dispatcher.rules.on_rule import RuleFold
from services.dispatcher.rules.reaction_progress import ReactionProgress
from services.dispatcher.rules.rule_book import RuleBook
from services.dispatcher.rules.rule_job import JobPlacement
from services.dispatcher.rules.submission import TEMPORARY, Occasion, Refusal, RuleSubmission, allow_all
from services.dispatcher.rules.upload_group import most_uploads
from services.dispatcher.rules.upload_origins import Origins, UploadOrigins

log = logging.getLogger(__name__)

#: Time for this dispatcher's fold to reach an event that it is told of; after that the event is tried again.
_FOLD_S: Final = 5.0
#: Age at which the definition of a rule is published again, and interval of the look for such rules.
_REPEAT_AFTER: Final = timedelta(days=60)
_REPEAT_LOOK_S: Final = 3600.0


class UploadRules:
    """Applies rules to uploads, in any dispatcher; closes groups and keeps rules alive in the one that leads."""

    def __init__(
        self,
        client: Client,
        *,
        store: EventStore,
        counts: EventStore,
        tail: EventTail,
        jobs: UnfinishedJobs,
        placement: JobPlacement,
        refusal: Refusal = allow_all,
        clock: NowFunction = utc_now,
        history: History | None = None,
    ) -> None:
        """Write to the streams EVENTS and RULECOUNTS; ``tail`` folds the first, and ``jobs`` have not ended.

        ``history`` has the uploads whose events the stream has deleted.

        ``refusal`` tells why a tenant may not start a job now.
        """
        self._store, self._tail, self._clock = store, tail, clock
        self.rules, self.groups = RuleBook(), GroupBook()
        artifacts, progress = ArtifactJobs(), ReactionProgress(client)
        self._uploads = StoredUploads(store, history)
        self._origins = UploadOrigins(store, artifacts)
        self._submission = RuleSubmission(store, counts, placement, refusal=refusal, clock=clock)
        self._members = GroupMembers(store, tail, self.groups)
        self._closing = GroupClosing(
            store,
            self.rules,
            self.groups,
            self._submission,
            self._uploads,
            progress=progress,
            clock=clock,
            known_until=lambda: tail.last,
        )
        self.fold = RuleFold(jobs, self.rules, self.groups, artifacts, progress, self._closing)

    async def apply(self, tenant: str, upload_id: str, sequence: int, traceparent: str | None = None) -> None:
        """Apply the tenant's rules to an upload that was completed at this sequence; again does no harm.

        Without a sequence (0), it is read from the stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; call it again. SEGMENT_DAMAGED.
        """
        if not sequence and (upload := await self._uploads.load(tenant, upload_id)):
            sequence = upload.sequence
        if not await self._tail.wait_for(sequence, _FOLD_S):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "This dispatcher is behind the event stream.")
        rules = self.rules.applying(tenant, sequence)
        if not rules:
            return
        upload = await self._uploads.load(tenant, upload_id)
        if upload is None or upload.completed is None or not upload.usable:
            return  # deleted since
        matching = [rule for rule in rules if matches(rule.definition.match, upload.created, upload.completed)]
        if not matching:
            return
        origins = await self._origins.of(upload)
        failed: list[Exception] = []
        for rule in matching:
            try:
                await self._apply(rule, upload, origins, traceparent)
            except Exception as error:  # noqa: BLE001 - one rule's error must not keep the others from their jobs
                failed.append(error)
        if failed:
            raise failed[0]

    async def lead(self) -> None:
        """Close groups and repeat old definitions until cancelled."""
        await first_of(self._closing.run(), self._repeat_definitions())

    async def _apply(self, rule: Rule, upload: Upload, origins: Origins, traceparent: str | None) -> None:
        """Apply one rule that matches.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        assert upload.completed_at is not None
        value = ""
        if (group := rule.definition.group) is not None:
            found = group_value(group, upload.created)
            if found is None:
                return
            value = found
        occasion = Occasion(
            job_id=derived_id("job", upload.id, rule.id),
            upload_ids=(upload.id,),
            sequence=upload.sequence,
            at=upload.completed_at,
            traceparent=traceparent,
        )
        try:
            if origins.include(rule.id):
                raise SaccadeError(ErrorCode.RULE_LOOP)
            if group is not None:
                workload = self._submission.placement.workloads.get(rule.definition.workload)
                most = most_uploads(rule.definition, workload)
                await self._members.add(rule, value, upload, most, traceparent)
                return
        except SaccadeError as error:
            if error.code in TEMPORARY:
                raise
            await self._submission.skip(rule, occasion, error)
            return
        await self._submission.submit(rule, occasion, [upload])

    async def _repeat_definitions(self) -> None:
        """Publish old definitions again, before they age out of the stream."""
        while True:
            for rule in self.rules:
                if self._clock() - rule.updated_at > _REPEAT_AFTER:
                    await self._repeat(rule)
            await asyncio.sleep(_REPEAT_LOOK_S)

    async def _repeat(self, rule: Rule) -> None:
        message = encode(
            RuleUpdated(rule=rule.definition, made_by=rule.made_by),
            tenant=rule.tenant,
            subject_id=rule.id,
            source=SOURCE,
            event_id=f"{rule.id}.updated.{rule.defined_sequence}",
            time=self._clock(),
        )
        among, known = aggregate(rule.tenant, "rule", rule.id), self._tail.last
        try:
            await self._store.publish(message, after=rule.sequence, among=among, known_until=known)
        except (Conflict, SaccadeError) as error:
            log.warning("the definition of %s is not repeated yet: %s", rule.id, error)
