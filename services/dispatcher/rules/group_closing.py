"""Closing of groups, and submission of their jobs, by the dispatcher that leads.

It works from the fold alone: a group that is complete or quiet is closed, a closed one without a job gets its job.
Whatever the previous leader left undone, the next one does; both steps are conditional, so that two leaders do no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode, encode
from contracts.events.rule import GroupClosed
from contracts.rule import Rule
from contracts.rule_matching import order_key
from contracts.streams import aggregate
from contracts.upload import Upload
from kit.bus.event_store import Conflict, EventStore
from services.dispatcher.jobs.job_repository import SOURCE, NowFunction, utc_now
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.rules.group_book import GroupBook
from services.dispatcher.rules.group_timers import GroupTimers
from services.dispatcher.rules.reaction_progress import ReactionProgress
from services.dispatcher.rules.rule_book import RuleBook
from services.dispatcher.rules.submission import Occasion, RuleSubmission
from services.dispatcher.rules.upload_group import (
    UploadGroup,
    end_reason,
    ends_at,
    fewest_uploads,
    fold,
    group_job_id,
    most_uploads,
)

log = logging.getLogger(__name__)

#: Groups that are closed at the same time.
_CONCURRENCY: Final = 8
#: Longest sleep without an event; and delay before a group whose step failed is tried again.
_LOOK_S: Final = 30.0
_RETRY_S: Final = 1.0
#: A quiet group waits this much longer for uploads that were completed in time and that no dispatcher has seen yet.
_LATE_S: Final = 30.0


class GroupClosing:
    """Work list of groups: those that an event has changed, and those whose time has come."""

    def __init__(
        self,
        store: EventStore,
        rules: RuleBook,
        groups: GroupBook,
        submission: RuleSubmission,
        uploads: StoredUploads,
        *,
        progress: ReactionProgress,
        clock: NowFunction = utc_now,
        known_until: Callable[[], int] = lambda: 0,
    ) -> None:
        """Write to ``store``; ``progress`` tells which completed uploads the dispatchers have looked at.

        Every event up to ``known_until()`` is folded into ``rules`` and ``groups``.
        """
        self._known_until = known_until
        self._store, self._rules, self._groups = store, rules, groups
        self._submission, self._uploads = submission, uploads
        self._progress = progress
        self._clock = clock
        self._leading = False
        self._changed: dict[str, None] = {}
        self._timers = self._no_timers()
        #: Sequence of the newest completed upload when a group's time had come.
        self._marks: dict[str, int] = {}
        self._wake = asyncio.Event()

    def look_at_soon(self, group_id: str) -> None:
        """Look at a group that was just closed, if it has no job soon: its dispatcher may have died."""
        if self._leading:
            self._look_after(group_id, _RETRY_S)

    def look_at(self, group_ids: Iterable[str]) -> None:
        """Look at groups: an event of theirs was folded. Only the leader does."""
        if self._leading:
            self._changed.update(dict.fromkeys(group_ids))
            self._wake.set()

    async def run(self) -> None:
        """Close groups and submit their jobs until cancelled."""
        self._leading = True
        self._changed = {group.id: None for group in self._groups}
        self._timers, self._marks = self._no_timers(), {}
        try:
            while True:
                self._wake.clear()
                self._take_due()
                while self._changed:
                    await self._step()
                await self._sleep()
        finally:
            self._leading = False

    def _no_timers(self) -> GroupTimers:
        return GroupTimers(lambda group_id: self._groups.get(group_id) is not None)

    def _take_due(self) -> None:
        self._changed.update(dict.fromkeys(self._timers.take_due(self._clock())))

    async def _sleep(self) -> None:
        """Sleep until an event changes a group, or the first timer."""
        wait_s = _LOOK_S
        if self._timers.first is not None:
            wait_s = min(wait_s, max(0.0, (self._timers.first - self._clock()).total_seconds()))
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _step(self) -> None:
        """Take some groups from the list and do what is left to do for each."""
        group_ids = list(self._changed)[:_CONCURRENCY]
        for group_id in group_ids:
            del self._changed[group_id]
        await asyncio.gather(*map(self._attend, group_ids))

    async def _attend(self, group_id: str) -> None:
        try:
            await self._decide(group_id)
        except SaccadeError as error:
            log.warning("group %s: %s", group_id, error.message)
            self._look_after(group_id, _RETRY_S)
        except Exception:  # one bad group must not stop the others
            log.exception("group %s could not be closed", group_id)
            self._look_after(group_id, _LOOK_S)

    def _look_after(self, group_id: str, after_s: float) -> None:
        def look() -> None:
            self.look_at([group_id])

        asyncio.get_running_loop().call_later(after_s, look)

    async def _decide(self, group_id: str) -> None:
        """Close a group if it is time, and submit its job.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE, SEGMENT_DAMAGED.
        """
        group = self._groups.get(group_id)
        if group is None:
            self._marks.pop(group_id, None)
            return
        rule = self._rules.get(group.tenant, group.rule_id)
        if rule is None:  # deleted: no job is made of its groups
            self._groups.drop(group_id)
            self._marks.pop(group_id, None)
            return
        if group.closed is None:
            if not rule.definition.enabled:
                return  # it goes on when the rule is switched on again
            workload = self._submission.placement.workloads.get(rule.definition.workload)
            most = most_uploads(rule.definition, workload)
            reason = end_reason(group, rule, most, self._clock())
            if reason is None:
                self._timers.add(group_id, ends_at(group, rule))
                return
            if reason == "quiet" and not await self._is_surely_quiet(group, rule):
                self._look_after(group_id, _RETRY_S)
                return
            uploads = await self._usable(group)
            if reason == "complete" and len(uploads) < most:
                self._look_after(group_id, 0.0)  # one was deleted: the group waits for another
                return
            closed = await self._close(group, rule, uploads, reason)
            if closed is None:
                self._look_after(group_id, 0.1)
                return
            group = closed
        await self._submit(group, rule)  # the fold of what it publishes removes the group

    async def _is_surely_quiet(self, group: UploadGroup, rule: Rule) -> bool:
        """Return whether no upload that belongs into the group is still on its way to a dispatcher.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        late_s = (self._clock() - ends_at(group, rule)).total_seconds()
        if late_s <= _LATE_S:
            mark = self._marks.setdefault(group.id, self._progress.newest)
            if not await self._progress.has_seen(mark):
                return False
        self._marks.pop(group.id, None)
        return True

    async def _usable(self, group: UploadGroup) -> list[Upload]:
        """Return the uploads of a group that can be used; the others leave it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE, SEGMENT_DAMAGED.
        """
        found = await self._uploads.load_all(group.tenant, group.upload_ids)
        usable = [upload for upload in found if upload.usable]
        for upload_id in set(group.upload_ids) - {upload.id for upload in usable}:
            log.info("%s was deleted and is left out of group %s", upload_id, group.id)
            self._groups.leave_out(upload_id)
        return usable

    async def _close(
        self, group: UploadGroup, rule: Rule, uploads: list[Upload], reason: str
    ) -> UploadGroup | None:  # fmt: skip
        """Publish that a group is closed; return it, or None if it has changed meanwhile.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        order = rule.definition.group

        def key(upload: Upload) -> tuple[object, ...]:
            assert upload.completed_at
            return (order_key(order, upload.created, upload.completed_at) if order else (), upload.id)

        upload_ids = tuple(upload.id for upload in sorted(uploads, key=key))
        data = GroupClosed(
            rule_id=rule.id,
            reason="complete" if reason == "complete" else "quiet",
            upload_ids=upload_ids,
            job_id=group_job_id(group.id, upload_ids),
        )
        message = encode(
            data,
            tenant=group.tenant,
            subject_id=group.id,
            source=SOURCE,
            event_id=f"{group.id}.closed",
            time=self._clock(),
        )
        try:
            sequence = await self._store.publish(
                message,
                after=group.sequence,
                among=aggregate(group.tenant, "group", group.id),
                known_until=self._known_until(),
            )
        except Conflict:
            return None
        return fold(group, decode(message.body), sequence)

    async def _submit(self, group: UploadGroup, rule: Rule) -> None:
        """Submit the job of a closed group, or say why there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE, SEGMENT_DAMAGED.
        """
        closed = group.closed
        assert closed is not None
        assert group.closed_at is not None
        occasion = Occasion(
            job_id=closed.job_id,
            upload_ids=closed.upload_ids,
            sequence=group.closed_sequence,
            at=group.closed_at,
            group_id=group.id,
        )
        fewest = fewest_uploads(rule.definition)
        if len(closed.upload_ids) < fewest:
            message = f"The group has {len(closed.upload_ids)} upload(s); the rule makes a job of {fewest} or more."
            await self._submission.skip(rule, occasion, SaccadeError(ErrorCode.MISSING_INPUT, message))
            return
        uploads = await self._uploads.load_all(group.tenant, closed.upload_ids)
        await self._submission.submit(rule, occasion, uploads)
