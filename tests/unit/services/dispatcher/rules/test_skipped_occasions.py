"""What a rule has skipped is read from the stream once, however many uploads come after its daily limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from contracts.events.base import encode
from contracts.events.rule import RuleDefinition, RuleSkipped
from contracts.ids import new_id
from contracts.rule import Rule
from kit.bus.event_store import StoredEvent
from services.dispatcher.rules.skipped_occasions import SkippedOccasions, skip_id

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
ERROR = {"code": "rule_limit_reached", "message": "m", "hint": "h", "retryable": False}


class CountingStore:
    """A stream whose reads are counted."""

    def __init__(self) -> None:
        self.stored: list[StoredEvent] = []
        self.read = 0

    async def history(self, after: int, subjects: str = ">") -> AsyncIterator[StoredEvent]:
        for event in list(self.stored):
            if event.sequence > after and event.subject == subjects:
                self.read += 1
                yield event

    def skip(self, rule: Rule, name: str, sequence: int) -> None:
        data = RuleSkipped(upload_ids=(name,), error=ERROR)
        message = encode(
            data, tenant=rule.tenant, subject_id=rule.id, source="/dispatcher", event_id=skip_id(rule, name), time=NOW
        )
        self.stored.append(StoredEvent(sequence, message.subject, message.body))


def a_rule() -> Rule:
    definition = RuleDefinition(name="r", workload="badminton")
    return Rule(new_id("rul"), "ann", definition, None, NOW, NOW, sequence=1, defined_sequence=1, applies_after=1)


async def test_each_skip_is_read_once() -> None:
    store, rule = CountingStore(), a_rule()
    skipped = SkippedOccasions(store)  # type: ignore[arg-type]
    for number in range(200):
        # Upload ``number`` has sequence 10 + 2 * number, the skip of it the next one.
        sequence = 10 + 2 * number
        assert not await skipped.contains(rule, f"upload {number}", sequence)
        store.skip(rule, f"upload {number}", sequence + 1)
        assert await skipped.contains(rule, f"upload {number}", sequence)
    assert store.read == 200


async def test_an_upload_that_comes_again_is_found_though_it_is_older_than_what_was_read() -> None:
    store, rule = CountingStore(), a_rule()
    for number in range(5):
        store.skip(rule, f"upload {number}", 11 + 2 * number)
    skipped = SkippedOccasions(store)  # type: ignore[arg-type]
    assert await skipped.contains(rule, "upload 4", 18)
    assert await skipped.contains(rule, "upload 0", 10)
    assert not await skipped.contains(rule, "upload 5", 20)


async def test_rules_do_not_mix_and_an_unreadable_event_is_passed_over() -> None:
    store, rule, other = CountingStore(), a_rule(), a_rule()
    subject = f"saccade.evt.{rule.tenant}.rule.{rule.id}.skipped"
    store.stored.append(StoredEvent(11, subject, b"not an event"))
    store.skip(rule, "upload", 12)
    skipped = SkippedOccasions(store)  # type: ignore[arg-type]
    assert await skipped.contains(rule, "upload", 10)
    assert not await skipped.contains(other, "upload", 10)
