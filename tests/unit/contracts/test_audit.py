"""The chain of the audit log: what was made verifies, and every change shows, with its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from contracts.audit import GENESIS, SYSTEM, Act, AuditData, ChainVerifier, decode_record, encode_record, record_hash
from contracts.events.base import Message

Stored = tuple[int, str, bytes]


def log_of(count: int) -> list[Stored]:
    """Return the records of ``count`` acts as they are stored, each with its outcome."""
    stored: list[Stored] = []
    previous = GENESIS

    def add(verb: str, record_id: str, intent: str | None) -> None:
        nonlocal previous
        data = AuditData(
            by="ada",
            why="test",
            request_id="req_1",
            phase="outcome" if intent else "intent",
            intent=intent,
            previous=previous,
        )
        act = Act(SYSTEM, "workload", "echo")
        message = encode_record(act, verb, data, record_id=record_id, source="/test", time=datetime.now(UTC))
        stored.append((len(stored) + 1, message.subject, message.body))
        previous = record_hash(message.subject, message.body)

    for number in range(count):
        add("pause_requested", f"ops_{number}", None)
        add("paused", f"ops_{number}.outcome", f"ops_{number}")
    return stored


def verified(stored: list[Stored]) -> ChainVerifier:
    verifier = ChainVerifier()
    for sequence, subject, body in stored:
        verifier.add(sequence, subject, body)
    return verifier


def test_what_was_written_is_whole() -> None:
    stored = log_of(5)
    found = verified(stored)
    assert (found.records, found.head_sequence, found.faults, found.open_intents) == (10, 10, [], {})
    assert found.head_hash == record_hash(*stored[-1][1:])
    assert stored[0][1] == "saccade.ops._system.workload.echo.pause_requested"
    record = decode_record(*stored[1])
    assert (record.noun, record.verb, record.data.by, record.data.intent) == ("workload", "paused", "ada", "ops_0")


def changed(field: str, value: str) -> Callable[[list[Stored]], None]:
    def change(stored: list[Stored]) -> None:
        sequence, subject, body = stored[4]
        event = json.loads(body)
        event["data"][field] = value
        stored[4] = (sequence, subject, json.dumps(event, separators=(",", ":")).encode())

    return change


def removed(stored: list[Stored]) -> None:
    del stored[4]


def swapped(stored: list[Stored]) -> None:
    stored[4], stored[6] = (5, *stored[6][1:]), (7, *stored[4][1:])


def renumbered(stored: list[Stored]) -> None:
    stored[4:] = [(number, *rest) for number, (_, *rest) in enumerate(stored[5:], start=5)]


def of_another_subject(stored: list[Stored]) -> None:
    stored[4] = (5, "saccade.ops.acme.workload.echo.pause_requested", stored[4][2])


def no_record(stored: list[Stored]) -> None:
    stored[4] = (5, stored[4][1], b"{}")


@pytest.mark.parametrize(
    "tamper",
    [
        changed("why", "something else"),
        changed("by", "mallory"),
        changed("previous", GENESIS),
        removed,
        swapped,
        renumbered,
        of_another_subject,
        no_record,
    ],
)
def test_every_change_shows_and_is_placed(tamper: Callable[[list[Stored]], None]) -> None:
    stored = log_of(5)
    tamper(stored)
    faults = verified(stored).faults
    assert faults
    assert faults[0].sequence in (5, 6)


def test_an_intent_without_outcome_and_an_outcome_too_many_show() -> None:
    found = verified(log_of(2)[:3])
    assert [record.id for record in found.open_intents.values()] == ["ops_1"]
    assert found.faults == []
    stored = log_of(1)
    data = AuditData(
        by="a", why="b", request_id="c", phase="outcome", intent="ops_0", previous=record_hash(*stored[1][1:])
    )
    again: Message = encode_record(
        Act(SYSTEM, "workload", "echo"), "pause_failed", data, record_id="x", source="/test", time=datetime.now(UTC)
    )
    stored.append((3, again.subject, again.body))
    assert [fault.problem for fault in verified(stored).faults] == ["it is a second outcome of ops_0"]


def test_a_log_without_its_beginning_is_not_whole() -> None:
    assert next(fault.problem for fault in verified(log_of(2)[1:]).faults) == "record 1 was removed"
