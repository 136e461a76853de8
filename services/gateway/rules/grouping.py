"""Groups that past uploads would have formed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from contracts.events.rule import RuleGroup
from contracts.rule_matching import OPEN_GROUP_S, group_value, order_key
from contracts.upload import Upload


@dataclass(frozen=True)
class PastGroup:
    """Uploads with the same value, in the order in which they fill the inputs."""

    value: str
    uploads: tuple[Upload, ...]
    #: ``waiting``: neither complete nor quiet yet.
    end: Literal["complete", "quiet", "waiting"]
    #: When the dispatcher closes it, if no further upload comes before.
    ends_at: datetime


def past_groups(group: RuleGroup, uploads: Iterable[Upload], most: int, now: datetime) -> list[PastGroup]:
    """Return the groups of uploads, given in the order of their completion; a group of ``most`` uploads is complete.

    Groups come in the order in which they end; an upload without the metadata that it is grouped by is in none.
    """
    by_value: dict[str, list[Upload]] = {}
    for upload in uploads:
        if (value := group_value(group, upload.created)) is not None:
            by_value.setdefault(value, []).append(upload)
    found = [ended for value, same in by_value.items() for ended in _of_value(group, value, same, most, now)]
    return sorted(found, key=lambda ended: (ended.end == "waiting", ended.ends_at))


def _of_value(group: RuleGroup, value: str, uploads: Sequence[Upload], most: int, now: datetime) -> Iterator[PastGroup]:
    full = most if group.needs is None else group.needs
    collected: list[Upload] = []
    for upload in uploads:
        if collected and _completed(upload) >= (ends_at := _ends_at(group, collected)):
            yield _group(group, value, collected, "quiet", ends_at)
            collected = []
        collected.append(upload)
        if len(collected) >= full:
            yield _group(group, value, collected, "complete", _completed(upload))
            collected = []
    if collected:
        ends_at = _ends_at(group, collected)
        yield _group(group, value, collected, "quiet" if now >= ends_at else "waiting", ends_at)


def _group(
    group: RuleGroup,
    value: str,
    uploads: Sequence[Upload],
    end: Literal["complete", "quiet", "waiting"],
    ends_at: datetime,
) -> PastGroup:
    ordered = sorted(uploads, key=lambda upload: order_key(group, upload.created, _completed(upload)))
    return PastGroup(value, tuple(ordered), end, ends_at)


def _ends_at(group: RuleGroup, collected: Sequence[Upload]) -> datetime:
    """Return when the dispatcher closes a group that is not complete; its uploads are in the order of completion."""
    expires_at = _completed(collected[0]) + timedelta(seconds=OPEN_GROUP_S)
    if group.quiet_s is None:
        return expires_at
    return min(expires_at, _completed(collected[-1]) + timedelta(seconds=group.quiet_s))


def _completed(upload: Upload) -> datetime:
    return upload.completed_at or upload.created_at
