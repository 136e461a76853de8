"""Groups of uploads that have no job yet, folded from the event stream into memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from contracts.events.base import Envelope
from services.dispatcher.rules.upload_group import UploadGroup, fold

#: Rules and values whose last closed group is remembered; of others the stream tells it.
_LAST_KEPT: Final = 10_000
#: Uploads that failed or were deleted and that a dispatcher may be adding to a group at that moment.
_FAILED_KEPT: Final = 10_000


@dataclass(frozen=True)
class LastClosed:
    """The newest closed group of a rule and a value: its number, and the sequence at which it was closed."""

    number: int
    sequence: int


@dataclass(frozen=True)
class SavedGroups:
    """Everything that a book knows, in its order."""

    groups: tuple[UploadGroup, ...] = ()
    #: Upload, and the groups that have it.
    uploads: tuple[tuple[str, tuple[str, ...]], ...] = ()
    #: Rule, value, number and sequence of the last closed groups.
    last_closed: tuple[tuple[str, str, int, int], ...] = ()
    failed: tuple[str, ...] = ()


class GroupBook:
    """Open groups, and closed ones until their job is submitted or skipped."""

    def __init__(self) -> None:
        """Create an empty book."""
        self._groups: dict[str, UploadGroup] = {}
        #: Groups of a rule and value, by number.
        self._numbers: dict[tuple[str, str], dict[int, str]] = {}
        self._of_upload: dict[str, set[str]] = {}
        self._of_rule: dict[str, set[str]] = {}
        self._last_closed: OrderedDict[tuple[str, str], LastClosed] = OrderedDict()
        self._failed: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._groups)

    def __iter__(self) -> Iterator[UploadGroup]:
        return iter(list(self._groups.values()))

    def get(self, group_id: str) -> UploadGroup | None:
        """Return a group that has no job yet."""
        return self._groups.get(group_id)

    def of(self, rule_id: str, value: str) -> list[UploadGroup]:
        """Return the groups of a rule and value that have no job yet, by number."""
        return [self._groups[group_id] for _, group_id in sorted(self._numbers.get((rule_id, value), {}).items())]

    def of_rule(self, rule_id: str) -> list[str]:
        """Return the ids of the groups of a rule that have no job yet."""
        return list(self._of_rule.get(rule_id, ()))

    def last_closed(self, rule_id: str, value: str) -> LastClosed | None:
        """Return the newest closed group of a rule and value, if it is remembered."""
        return self._last_closed.get((rule_id, value))

    def fold(self, envelope: Envelope, sequence: int) -> UploadGroup | None:
        """Fold one event of a group and return the group after it; None when it is unknown.

        An upload that failed or was deleted before its addition was stored is taken out at once, by every dispatcher:
        counted, it would complete the group too early, and the next upload would open another group.
        """
        group = fold(self._groups.get(envelope.subject), envelope, sequence)
        if group is None:
            return None
        self._put(group)
        added = group.upload_ids[-1:]
        if group.closed is None and added and added[0] in self._failed:
            self.leave_out(added[0])
            group = self._groups[group.id]
        if group.closed is not None:
            key = (group.rule_id, group.value)
            last = self._last_closed.pop(key, LastClosed(0, 0))
            self._last_closed[key] = LastClosed(max(last.number, group.number), max(last.sequence, sequence))
            if len(self._last_closed) > _LAST_KEPT:
                self._last_closed.popitem(last=False)
        return group

    def leave_out(self, upload_id: str) -> list[str]:
        """Take an upload that failed or was deleted out of the groups that still wait; return their ids."""
        self._failed[upload_id] = None
        if len(self._failed) > _FAILED_KEPT:
            self._failed.popitem(last=False)
        found = [group_id for group_id in self._of_upload.pop(upload_id, ()) if group_id in self._groups]
        for group_id in found:
            if (group := self._groups[group_id]).closed is None:
                self._groups[group_id] = group.without(upload_id)
        return found

    def drop(self, group_id: str) -> None:
        """Remove a group: its job is submitted, or there will be none."""
        group = self._groups.pop(group_id, None)
        if group is None:
            return
        for upload_id in group.upload_ids:
            _discard(self._of_upload, upload_id, group_id)
        _discard(self._of_rule, group.rule_id, group_id)
        numbers = self._numbers[group.rule_id, group.value]
        del numbers[group.number]
        if not numbers:
            del self._numbers[group.rule_id, group.value]

    def drop_rule(self, rule_id: str) -> None:
        """Remove the groups of a deleted rule."""
        for group_id in list(self._of_rule.get(rule_id, ())):
            self.drop(group_id)
        for key in [key for key in self._last_closed if key[0] == rule_id]:
            del self._last_closed[key]

    def forget_upload(self, is_forgotten: Callable[[str], bool]) -> None:
        """Forget an erased upload, and the values of closed groups: of those the stream tells what it still has."""
        for upload_id in [upload_id for upload_id in {*self._of_upload, *self._failed} if is_forgotten(upload_id)]:
            self.leave_out(upload_id)
            del self._failed[upload_id]
        self._last_closed.clear()

    def saved(self) -> SavedGroups:
        """Return everything that is known, to be stored."""
        return SavedGroups(
            groups=tuple(self._groups.values()),
            uploads=tuple((upload_id, tuple(sorted(ids))) for upload_id, ids in self._of_upload.items()),
            last_closed=tuple((*key, last.number, last.sequence) for key, last in self._last_closed.items()),
            failed=tuple(self._failed),
        )

    def restore(self, saved: SavedGroups) -> None:
        """Go on from what was stored; nothing may have been folded yet."""
        for group in saved.groups:
            self._index(group)
        self._of_upload = {upload_id: set(ids) for upload_id, ids in saved.uploads}
        self._last_closed = OrderedDict(
            ((rule_id, value), LastClosed(number, sequence)) for rule_id, value, number, sequence in saved.last_closed
        )
        self._failed = OrderedDict.fromkeys(saved.failed)

    def _index(self, group: UploadGroup) -> None:
        self._groups[group.id] = group
        self._numbers.setdefault((group.rule_id, group.value), {})[group.number] = group.id
        self._of_rule.setdefault(group.rule_id, set()).add(group.id)

    def _put(self, group: UploadGroup) -> None:
        self._index(group)
        for upload_id in group.upload_ids[-1:]:
            self._of_upload.setdefault(upload_id, set()).add(group.id)


def _discard(groups: dict[str, set[str]], key: str, group_id: str) -> None:
    """Remove a group from the groups of a key, and the key with its last group."""
    if (found := groups.get(key)) is not None:
        found.discard(group_id)
        if not found:
            del groups[key]
