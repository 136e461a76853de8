"""Joining of uploads to groups: each upload to exactly one group of each rule, however often it is handled."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from weakref import WeakValueDictionary

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode, encode
from contracts.events.rule import GroupClosed, GroupUploadAdded
from contracts.rule import Rule
from contracts.streams import aggregate
from contracts.upload import Upload
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.dispatcher.jobs.job_repository import SOURCE
from services.dispatcher.rules.group_book import GroupBook
from services.dispatcher.rules.upload_group import UploadGroup, ends_at, group_id

log = logging.getLogger(__name__)

#: Groups of one rule that may wait for uploads at the same time.
OPEN_GROUPS: Final = 1_000
#: Groups that were closed before an upload was completed and that are read before the search for it ends.
_OLDER_READ: Final = 3
#: Attempts to add an upload, each after another dispatcher has changed the groups.
_TRIES: Final = 50
#: Time for this dispatcher's fold to reach an event that another one has published.
_FOLD_S: Final = 5.0


class GroupMembers:
    """Adds uploads to groups. Each addition is conditional on the group as this dispatcher has folded it."""

    def __init__(self, store: EventStore, tail: EventTail, book: GroupBook) -> None:
        """Write to ``store``, the stream EVENTS; ``tail`` folds it into ``book``."""
        self._store = store
        self._tail = tail
        self._book = book
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def add(self, rule: Rule, value: str, upload: Upload, most: int, traceparent: str | None = None) -> None:
        """Add a completed upload to the group of a value that takes it, unless it is in one already.

        ``most`` is the number of uploads with which a group of the rule is complete.

        Raises:
            SaccadeError: RULE_LIMIT_REACHED, when too many groups wait; BUS_UNAVAILABLE, call it again.
        """
        turn = self._turns.setdefault((rule.id, value), asyncio.Lock())
        async with turn:
            for _ in range(_TRIES):
                if await self._added(rule, value, upload, most, traceparent):
                    return
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The groups of the rule change too fast.")

    async def _added(self, rule: Rule, value: str, upload: Upload, most: int, traceparent: str | None) -> bool:
        """Try to add an upload; return whether it is in a group now.

        Raises:
            SaccadeError: as ``add``.
        """
        groups = self._book.of(rule.id, value)
        if any(upload.id in group.upload_ids or _closed_with(group.closed, upload) for group in groups):
            return True
        assert upload.completed_at is not None
        waiting = [group for group in groups if _takes(group, rule, upload, most)]
        number = waiting[0].number if waiting else None
        newest_number = await self._newest_number(rule.id, value, groups)
        known = await self._closed_since(rule, value, upload, number - 1 if number else newest_number)
        if known:
            return True
        if known is None or self._book.of(rule.id, value) != groups:
            return False  # another dispatcher opened, filled or closed a group during the reads
        if number is None and len(self._book.of_rule(rule.id)) >= OPEN_GROUPS:
            message = f"{OPEN_GROUPS} groups of the rule wait for uploads; it opens no further one."
            raise SaccadeError(ErrorCode.RULE_LIMIT_REACHED, message)
        group = waiting[0] if waiting else None
        data = GroupUploadAdded(
            rule_id=rule.id,
            value=value,
            number=group.number if group else newest_number + 1,
            upload_id=upload.id,
            count=len(group.upload_ids) + 1 if group else 1,
        )
        return await self._publish(upload, data, group.sequence if group else 0, traceparent)

    async def _publish(self, upload: Upload, data: GroupUploadAdded, after: int, traceparent: str | None) -> bool:
        """Publish an addition and wait until it is folded; return whether it was stored.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject_id = group_id(data.rule_id, data.value, data.number)
        # The time of the event is that of the upload: when a group is quiet depends on the uploads, and not on when a
        # dispatcher was there to see them.
        message = encode(
            data,
            tenant=upload.tenant,
            subject_id=subject_id,
            source=SOURCE,
            event_id=f"{subject_id}.{upload.id}",
            time=upload.completed_at,
            traceparent=traceparent,
        )
        among = aggregate(upload.tenant, "group", subject_id)
        try:
            sequence = await self._store.publish(message, after=after, among=among, known_until=self._tail.last)
        except Conflict:
            newest = await self._store.load(among)
            await self._folded(newest[-1].sequence if newest else after)
            return False
        await self._folded(sequence)
        return True

    async def _newest_number(self, rule_id: str, value: str, groups: list[UploadGroup]) -> int:
        """Return the number of the newest group of a rule and value in the stream; 0 if there is none.

        Numbers are used one after the other, so that a few reads find the newest of many.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if groups:
            return groups[-1].number
        last = self._book.last_closed(rule_id, value)
        low, step = (last.number if last else 0), 1
        while await self._newest_event(rule_id, value, low + step):
            low, step = low + step, step * 2
        high = low + step  # there is none with this number
        while high - low > 1:
            middle = (low + high) // 2
            if await self._newest_event(rule_id, value, middle):
                low = middle
            else:
                high = middle
        return low

    async def _closed_since(self, rule: Rule, value: str, upload: Upload, number: int) -> bool | None:
        """Return whether a group up to ``number`` was closed with an upload in it; None: this fold was behind.

        A group that was closed before the upload was completed cannot contain it, and groups are closed nearly in the
        order of their numbers: the search ends after ``_OLDER_READ`` of them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        last = self._book.last_closed(rule.id, value)
        if last is not None and last.number >= number and last.sequence < upload.sequence:
            return False
        older = 0
        while number >= 1 and older < _OLDER_READ:
            newest = await self._newest_event(rule.id, value, number)
            if newest is None:
                return False  # aged out of the stream
            data = decode(newest.body).parsed()
            if not isinstance(data, GroupClosed):
                if self._tail.last >= newest.sequence:
                    number -= 1  # complete, and not closed yet; its uploads are in the book
                    continue
                await self._folded(newest.sequence)
                return None
            if upload.id in data.upload_ids:
                return True
            older += newest.sequence < upload.sequence
            number -= 1
        return False

    async def _newest_event(self, rule_id: str, value: str, number: int) -> StoredEvent | None:
        """Return the newest event of a group in the stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self._store.load(aggregate("*", "group", group_id(rule_id, value, number)))
        return found[-1] if found else None

    async def _folded(self, sequence: int) -> None:
        """Wait until this dispatcher has folded an event.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if not await self._tail.wait_for(sequence, _FOLD_S):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "This dispatcher is behind the event stream.")


def _takes(group: UploadGroup, rule: Rule, upload: Upload, most: int) -> bool:
    """Return whether a group takes an upload: it is not complete, and was not quiet before the upload came."""
    assert upload.completed_at is not None
    return group.closed is None and len(group.upload_ids) < most and upload.completed_at < ends_at(group, rule)


def _closed_with(closed: GroupClosed | None, upload: Upload) -> bool:
    return closed is not None and upload.id in closed.upload_ids
