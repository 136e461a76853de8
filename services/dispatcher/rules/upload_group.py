"""Group of uploads that a rule makes one job of: the fold of its events, and when it takes no more uploads. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from contracts.events.base import EVENT_CLASSES, Envelope
from contracts.events.rule import MAXIMUM_GROUP, GroupClosed, GroupUploadAdded, RuleDefinition
from contracts.ids import derived_id
from contracts.rule import Rule
from contracts.rule_matching import OPEN_GROUP_S, capacity, filled_inputs
from contracts.workload import Workload


@dataclass(frozen=True)
class UploadGroup:
    """One group, folded from its events. An event's time is that at which its upload was completed."""

    id: str
    tenant: str
    rule_id: str
    value: str
    number: int
    #: Uploads in the order in which they joined, without those that have failed or were deleted since.
    upload_ids: tuple[str, ...]
    sequence: int
    opened_at: datetime
    #: When its newest upload was completed.
    newest_at: datetime
    closed: GroupClosed | None = None
    closed_at: datetime | None = None
    closed_sequence: int = 0

    def without(self, upload_id: str) -> UploadGroup:
        """Return the group without an upload that can no longer be used."""
        return replace(self, upload_ids=tuple(other for other in self.upload_ids if other != upload_id))


def group_id(rule_id: str, value: str, number: int) -> str:
    """Return the id of a rule's group: always the same, so that two dispatchers add to the same group."""
    return derived_id("grp", rule_id, value, str(number))


def group_job_id(group: str, upload_ids: tuple[str, ...]) -> str:
    """Return the id of a group's job; it holds the time of the newest upload."""
    return derived_id("job", max(upload_ids, default=group), group)


def fold(group: UploadGroup | None, envelope: Envelope, sequence: int) -> UploadGroup | None:
    """Apply one event; a closed group does not change. None before the first upload."""
    data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
    if group is None:
        if not isinstance(data, GroupUploadAdded):
            return None
        return UploadGroup(
            id=envelope.subject,
            tenant=envelope.tenant,
            rule_id=data.rule_id,
            value=data.value,
            number=data.number,
            upload_ids=(data.upload_id,),
            sequence=sequence,
            opened_at=envelope.time,
            newest_at=envelope.time,
        )
    if sequence <= group.sequence:
        return group
    group = replace(group, sequence=sequence)
    match data:
        case GroupUploadAdded() if group.closed is None:
            return replace(
                group,
                upload_ids=(*group.upload_ids, data.upload_id),
                opened_at=min(group.opened_at, envelope.time),
                newest_at=max(group.newest_at, envelope.time),
            )
        case GroupClosed() if group.closed is None:
            return replace(group, closed=data, closed_at=envelope.time, closed_sequence=sequence)
    return group


def most_uploads(definition: RuleDefinition, workload: Workload | None) -> int:
    """Return the number of uploads with which a group of this rule is complete."""
    if definition.group is not None and definition.group.needs is not None:
        return definition.group.needs
    try:
        return capacity(filled_inputs(definition.inputs, workload)) if workload is not None else MAXIMUM_GROUP
    except LookupError:
        return MAXIMUM_GROUP  # what is wrong with the inputs is said when the job would be submitted


def ends_at(group: UploadGroup, rule: Rule) -> datetime:
    """Return when the group takes no more uploads, if none comes before."""
    waits = rule.definition.group
    if waits is None:  # the rule was changed and makes no groups any more
        return group.newest_at
    expires_at = group.opened_at + timedelta(seconds=OPEN_GROUP_S)
    if waits.quiet_s is None:
        return expires_at
    return min(expires_at, group.newest_at + timedelta(seconds=waits.quiet_s))


def end_reason(
    group: UploadGroup, rule: Rule, most: int, now: datetime
) -> Literal["complete", "quiet"] | None:  # fmt: skip
    """Return why the group takes no more uploads; None while it does."""
    if len(group.upload_ids) >= most:
        return "complete"
    return "quiet" if now >= ends_at(group, rule) else None


def fewest_uploads(definition: RuleDefinition) -> int:
    """Return the least number of uploads that a job is made of."""
    waits = definition.group
    if waits is None:
        return 1
    return waits.minimum if waits.needs is None else waits.needs
