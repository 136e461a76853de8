"""The index of dead letters: what it says does not depend on the order in which streams are read; groups of errors."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from contracts.audit import Act, AuditData, decode_record, encode_record
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, encode
from contracts.events.delivery import WebhookFailed, WebhookRedeliveryRequested
from contracts.events.job import JobFailed, JobRetrying
from kit.bus.event_store import StoredEvent
from services.gateway.dead_letters.index import DeadLetterIndex
from services.gateway.dead_letters.letter import Kind, LetterState, normalised

#: The same in every process: they are in the names of tests, which pytest-xdist compares.
JOB, OTHER, ENDPOINT = (
    "job_0198c0de-0000-7000-8000-000000000001",
    "job_0198c0de-0000-7000-8000-000000000002",
    "whk_0198c0de-0000-7000-8000-000000000003",
)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
Step = Callable[[DeadLetterIndex], None]


def stored(sequence: int, subject_id: str, data: EventData) -> StoredEvent:
    message = encode(data, tenant="acme", subject_id=subject_id, source="/test")
    return StoredEvent(sequence, message.subject, message.body)


def failed(sequence: int, job_id: str, attempt: int) -> Step:
    error = ErrorBody(code=ErrorCode.INPUT_UNREADABLE, message="broken", hint="Look.")
    event = stored(sequence, job_id, JobFailed(attempt=attempt, failure="user", error=error))
    return lambda index: index.on_failed_job(event)


def retried(sequence: int, job_id: str, attempt: int) -> Step:
    data = JobRetrying(
        attempt=attempt, first_attempt=attempt, after="asked", delay_s=0, rung=0, not_before=NOW, deadline=NOW
    )
    event = stored(sequence, job_id, data)
    return lambda index: index.on_retried_job(event)


def given_up(record: int, sequence: int, attempt: int, *, last: bool = True) -> Step:
    data = WebhookFailed(
        endpoint_id=ENDPOINT,
        event_id="evt",
        event_type="job.failed",
        event_subject=JOB,
        sequence=sequence,
        attempt=attempt,
        latency_ms=1,
        url_origin="http://x",
        error="timeout",
        next_attempt_at=None if last else NOW + timedelta(hours=1),
    )
    event = stored(record, ENDPOINT, data)
    return lambda index: index.on_failed_delivery(event)


def asked_again(record: int, **what: object) -> Step:
    event = stored(record, ENDPOINT, WebhookRedeliveryRequested.model_validate({"endpoint_id": ENDPOINT, **what}))
    return lambda index: index.on_redelivery(event)


def discarded(record: int, letter_id: str, fault: int) -> Step:
    data = AuditData(
        by="ada", why="known", request_id="r", phase="outcome", intent="i", details={"fault": fault}, previous="0"
    )
    act = Act("acme", "dead_letter", letter_id)
    message = encode_record(act, "discarded", data, record_id="ops", source="/gateway", time=NOW)
    found = decode_record(record, message.subject, message.body)
    return lambda index: index.on_record(found)


#: What each source has, in its own order.
SOURCES: tuple[tuple[Step, ...], ...] = (
    (failed(3, JOB, 0), failed(9, JOB, 1), failed(12, OTHER, 0)),
    (retried(5, JOB, 1), retried(14, OTHER, 1)),
    (given_up(1, 7, 9), given_up(2, 8, 9), given_up(3, 11, 2, last=False), given_up(6, 7, 10), given_up(7, 20, 9)),
    (asked_again(4, sequences=[7]), asked_again(5, since_sequence=7, until_sequence=10)),
    (discarded(1, JOB, 3), discarded(2, f"{ENDPOINT}:20", 7)),
)


@pytest.mark.parametrize("order", range(30))
def test_the_order_in_which_streams_are_read_changes_nothing(order: int) -> None:
    chance, index = random.Random(order), DeadLetterIndex()
    left = [list(source) for source in SOURCES]
    while any(left):
        chance.choice([source for source in left if source]).pop(0)(index)
        assert index.counts() == counted_one_by_one(index)
    assert {letter.id: (index.state(letter), letter.attempt) for letter in index.all()} == {
        JOB: (LetterState.OPEN, 1),  # discarded was the fault before
        OTHER: (LetterState.REDRIVEN, 0),
        f"{ENDPOINT}:7": (LetterState.OPEN, 10),  # delivered again, and given up again
        f"{ENDPOINT}:8": (LetterState.REDRIVEN, 9),
        f"{ENDPOINT}:20": (LetterState.DISCARDED, 9),
    }
    assert index.counts() == {("job", "dispatcher"): 1, ("delivery", "notifier"): 1}


def counted_one_by_one(index: DeadLetterIndex) -> Counter[tuple[str, str]]:
    letters = [letter for letter in index.all() if index.state(letter) is LetterState.OPEN]
    return Counter((letter.kind.value, letter.service) for letter in letters)


def test_letters_that_their_stream_has_deleted_are_neither_found_nor_counted() -> None:
    index = DeadLetterIndex()
    for source in SOURCES:
        for step in source:
            step(index)
    third = JOB.replace("1", "9")
    failed(13, third, 0)(index)
    # The job failed again after that: its letter is not the oldest, though it was the first.
    failed(14, JOB, 2)(index)
    for first, kept in ((12, [OTHER, third, JOB]), (13, [third, JOB]), (14, [JOB]), (15, [])):
        index.prune(Kind.JOB, first)
        assert {letter.id for letter in index.all() if letter.kind is Kind.JOB} == set(kept)
        assert index.counts() == counted_one_by_one(index)
    assert index.get(JOB) is None
    assert index.get(f"{ENDPOINT}:7") is not None, "of another stream"


def test_a_list_does_not_compare_every_letter_with_every_order() -> None:
    index, count = DeadLetterIndex(), 2000
    for sequence in range(1, count + 1):
        given_up(sequence, sequence, 9)(index)
        asked_again(count + sequence, sequences=[count + sequence])(index)
    began_s = time.process_time()
    assert index.counts() == {("delivery", "notifier"): count, ("job", "dispatcher"): 0}
    assert time.process_time() - began_s < 0.2


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("frame 17 of job_0198c0de-0000-7000-8000-000000000001", f"frame 4 of {JOB}", True),
        ("took 3.5 s", "took 12 s", True),
        ("sha256 9f86d081884c7d65 differs", "sha256 e3b0c44298fc1c14 differs", True),
        ("KeyError: 'cost'", "KeyError: 'state'", False),
        ("deadbeef is a word here", "another is a word here", False),
    ],
)
def test_errors_of_the_same_words_are_one_group(one: str, another: str, *, same: bool) -> None:
    assert (normalised(one) == normalised(another)) is same
