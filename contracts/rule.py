"""Upload rule: the fold of its events. Pure.

The events ``rule.created`` and ``rule.updated`` hold the whole definition. Events are kept for 90 days; the dispatcher
that leads publishes the definition of a rule again before it expires, so a rule may begin with ``rule.updated``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.events.base import EVENT_CLASSES, Envelope, decode_at
from contracts.events.rule import RuleCreated, RuleDefinition, RuleDeleted, RuleSkipped, RuleUpdated
from contracts.ids import time_of


@dataclass(frozen=True)
class Rule:
    """One rule, folded from its events."""

    id: str
    tenant: str
    definition: RuleDefinition
    #: Id of the API key of who made it, or changed it last; None without keys.
    made_by: str | None
    created_at: datetime
    updated_at: datetime
    #: Sequence of the newest folded event, and of the newest one with the definition.
    sequence: int
    defined_sequence: int
    #: The rule applies to uploads that were completed after this sequence: it was made, or switched on, there.
    applies_after: int
    deleted_at: datetime | None = None
    #: The newest ``rule.skipped``, with its sequence and time.
    skipped: RuleSkipped | None = None
    skipped_sequence: int = 0
    skipped_at: datetime | None = None

    def applies_to(self, sequence: int) -> bool:
        """Return whether the rule applies to uploads that were completed at this sequence, if they match."""
        return self.definition.enabled and self.deleted_at is None and sequence > self.applies_after


def fold(rule: Rule | None, envelope: Envelope, sequence: int) -> Rule | None:
    """Apply one event; a deleted rule stays deleted. None before the first definition."""
    data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
    if rule is None:
        if not isinstance(data, RuleCreated | RuleUpdated):
            return None
        return Rule(
            id=envelope.subject,
            tenant=envelope.tenant,
            definition=data.rule,
            made_by=data.made_by,
            created_at=envelope.time if isinstance(data, RuleCreated) else time_of(envelope.subject),
            updated_at=envelope.time,
            sequence=sequence,
            defined_sequence=sequence,
            applies_after=sequence,
        )
    if sequence <= rule.sequence:
        return rule
    rule = replace(rule, sequence=sequence)
    match data:
        case RuleUpdated() if rule.deleted_at is None:
            switched_on = data.rule.enabled and not rule.definition.enabled
            return replace(
                rule,
                definition=data.rule,
                made_by=data.made_by,
                updated_at=envelope.time,
                defined_sequence=sequence,
                applies_after=sequence if switched_on else rule.applies_after,
            )
        case RuleDeleted() if rule.deleted_at is None:
            return replace(rule, deleted_at=envelope.time)
        case RuleSkipped():
            return replace(rule, skipped=data, skipped_sequence=sequence, skipped_at=envelope.time)
    return rule


def fold_stored(rule: Rule | None, subject: str, body: bytes, sequence: int) -> Rule | None:
    """Apply one stored event, checked against the subject that it was stored on.

    Raises:
        ValueError: the bytes are not an event of this subject.
    """
    return fold(rule, decode_at(subject, body), sequence)
