"""Order of a callback's records: what the tail passes late does not open a callback again that has ended here."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from contracts.callback import Callback
from contracts.streams import CALLBACKS
from kit.bus.event_store import EventStore, StoredEvent
from services.notifier.callbacks.callback_store import CallbackStore
from tests.unit.services.notifier.callbacks.test_next_step import JOB, UPLOAD, callback


def stored(sequence: int, **changes: Any) -> StoredEvent:
    message = callback(**changes).message()
    return StoredEvent(sequence, message.subject, message.body)


def test_a_record_that_the_tail_passes_after_a_newer_one_changes_nothing() -> None:
    seen: list[Callback] = []
    store = CallbackStore(EventStore(Client(), CALLBACKS.name), seen.append)
    subject = callback().subject
    store._on_record(stored(1))
    assert (store.subject_of(JOB), store.subject_of(UPLOAD)) == (subject, subject)
    store._apply(callback(attempts=1), 2)
    store._apply(callback(outcome="completed"), 3)  # stored by this process; the tail is behind
    store._on_record(stored(2, attempts=1))
    store._on_record(stored(3, outcome="completed"))
    assert store.find(subject) is None
    assert store.subject_of(JOB) is None
    assert len(seen) == 1
    store._on_record(stored(4, requests=2))
    assert [found.requests for found in store.active()] == [2]
    assert not store._ended, "nothing is kept of what the tail has passed"


def test_another_run_of_the_video_replaces_the_first() -> None:
    store = CallbackStore(EventStore(Client(), CALLBACKS.name), lambda _: None)
    store._on_record(stored(1))
    other = callback(generation=2).model_copy(update={"job_id": "job_2", "upload_ids": ("upl_2",)})
    store._on_record(StoredEvent(2, other.subject, other.message().body))
    assert [store.subject_of(one) for one in (JOB, UPLOAD, "job_2")] == [None, None, other.subject]


def test_what_cannot_be_read_is_passed_over() -> None:
    store = CallbackStore(EventStore(Client(), CALLBACKS.name), lambda _: None)
    store._on_record(StoredEvent(1, callback().subject, b"{}"))
    assert list(store.active()) == []
