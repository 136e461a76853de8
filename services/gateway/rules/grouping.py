"""Groups that past uploads would have formed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from contracts.events.rule import RuleGroup
from contracts.rule_matching import group_value, order_key
from contracts.upload import Upload


@dataclass(frozen=True)
class PastGroup:
    """Uploads with the same value, in the order in which they fill the inputs."""

    value: str
    uploads: tuple[Upload, ...]
    #: ``waiting``: neither complete nor quiet yet.
    end: Literal["complete", "quiet", "waiting"]


def past_groups(group: RuleGroup, uploads: Iterable[Upload], most: int, now: datetime) -> list[PastGroup]:
    """Return the groups of uploads, given in the order of their completion; a group of ``most`` uploads is complete.

    Groups come in the order in which they end; an upload without the metadata that it is grouped by is in none.
    """
    by_value: dict[str, list[Upload]] = {}
    for upload in uploads:
        if (value := group_value(group, upload.created)) is not None:
            by_value.setdefault(value, []).append(upload)
    found = [ended for value, same in by_value.items() for ended in _of_value(group, value, same, most, now)]
    return sorted(found, key=lambda ended: (ended.end == "waiting", max(_completed(each) for each in ended.uploads)))


def _of_value(group: RuleGroup, value: str, uploads: Sequence[Upload], most: int, now: datetime) -> Iterator[PastGroup]:
    full = most if group.needs is None else group.needs
    collected: list[Upload] = []
    for upload in uploads:
        if collected and _is_quiet(group, collected[-1], _completed(upload)):
            yield _group(group, value, collected, "quiet")
            collected = []
        collected.append(upload)
        if len(collected) >= full:
            yield _group(group, value, collected, "complete")
            collected = []
    if collected:
        yield _group(group, value, collected, "quiet" if _is_quiet(group, collected[-1], now) else "waiting")


def _group(
    group: RuleGroup, value: str, uploads: Sequence[Upload], end: Literal["complete", "quiet", "waiting"]
) -> PastGroup:
    ordered = sorted(uploads, key=lambda upload: order_key(group, upload.created, _completed(upload)))
    return PastGroup(value, tuple(ordered), end)


def _is_quiet(group: RuleGroup, last: Upload, then: datetime) -> bool:
    return group.quiet_s is not None and (then - _completed(last)).total_seconds() >= group.quiet_s


def _completed(upload: Upload) -> datetime:
    return upload.completed_at or upload.created_at
