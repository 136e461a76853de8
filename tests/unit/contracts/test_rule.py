"""State of an upload rule, folded from its events: its definition, and the uploads that it applies to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, decode, encode
from contracts.events.rule import RuleCreated, RuleDefinition, RuleDeleted, RuleSkipped, RuleUpdated
from contracts.ids import new_id, time_of
from contracts.rule import Rule, fold, fold_stored

MADE = RuleDefinition(name="Every video", workload="badminton")
OFF = MADE.model_copy(update={"enabled": False})
SKIPPED = RuleSkipped(upload_ids=("upl_1",), error=SaccadeError(ErrorCode.BUDGET_EXCEEDED).body())


def folded(*events: EventData, first: int = 1) -> Rule | None:
    rule: Rule | None = None
    rule_id = new_id("rul")
    for sequence, data in enumerate(events, start=first):
        message = encode(data, tenant="acme", subject_id=rule_id, source="/test")
        rule = fold_stored(rule, message.subject, message.body, sequence)
        assert fold(rule, decode(message.body), sequence) == rule, "an event that comes again changes nothing"
    return rule


def applies(rule: Rule | None, sequence: int) -> bool:
    assert rule
    return rule.applies_to(sequence)


def test_a_rule_applies_to_what_is_completed_after_it_was_made() -> None:
    rule = folded(RuleCreated(rule=MADE), first=7)
    assert not applies(rule, 6)
    assert applies(rule, 8)


def test_a_rule_that_is_switched_on_again_leaves_out_what_came_while_it_was_off() -> None:
    rule = folded(RuleCreated(rule=MADE), RuleUpdated(rule=OFF))
    assert not applies(rule, 10)
    rule = folded(RuleCreated(rule=MADE), RuleUpdated(rule=OFF), RuleUpdated(rule=MADE))
    assert not applies(rule, 2)
    assert applies(rule, 4)


def test_a_change_keeps_what_came_before_it() -> None:
    renamed = MADE.model_copy(update={"name": "Other"})
    rule = folded(RuleCreated(rule=MADE, made_by="key_1"), RuleUpdated(rule=renamed, made_by="key_2"))
    assert applies(rule, 2)
    assert rule
    assert (rule.definition.name, rule.made_by, rule.sequence, rule.defined_sequence) == ("Other", "key_2", 2, 2)


def test_a_deleted_rule_applies_to_nothing_and_stays_deleted() -> None:
    rule = folded(RuleCreated(rule=MADE), RuleDeleted(), RuleUpdated(rule=MADE))
    assert rule
    assert rule.deleted_at
    assert not applies(rule, 9)


def test_a_skipped_upload_is_shown_and_changes_neither_definition_nor_reach() -> None:
    rule = folded(RuleCreated(rule=MADE), SKIPPED)
    assert rule
    assert (rule.skipped, rule.skipped_sequence, rule.sequence, rule.defined_sequence) == (SKIPPED, 2, 2, 1)
    assert applies(rule, 2)


def test_a_rule_whose_first_event_has_expired_begins_with_its_newest_definition() -> None:
    rule = folded(RuleUpdated(rule=MADE), first=40)
    assert rule
    assert rule.created_at == time_of(rule.id)
    assert abs(rule.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert applies(rule, 41)
    assert folded(RuleDeleted()) is None
    assert folded(SKIPPED) is None
