"""Which jobs and sessions count as ended: the newest only, of each tenant, until they are reopened."""

from __future__ import annotations

import pytest

from kit.bus.event_store import StoredEvent
from services.notifier.ended_subjects import EndedSubjects


def _stored(subject: str) -> StoredEvent:
    return StoredEvent(1, subject, b"{}")


def _progress(subject_id: str, tenant: str = "acme", noun: str = "job") -> str:
    return f"saccade.prog.{tenant}.{noun}.{subject_id}.progressed"


@pytest.mark.parametrize(
    ("noun", "verb", "has_ended"),
    [
        ("job", "succeeded", True),
        ("job", "failed", True),
        ("job", "cancelled", True),
        ("session", "stopped", True),
        ("session", "failed", True),
        ("job", "interrupted", False),
        ("upload", "failed", False),
    ],
)
def test_ends_of_jobs_and_sessions_count(noun: str, verb: str, has_ended: bool) -> None:
    ended = EndedSubjects()
    ended.on_event(_stored(f"saccade.evt.acme.{noun}.one.{verb}"))
    assert ended.has(_progress("one", noun=noun)) is has_ended
    assert not ended.has(_progress("one", "globex", noun))
    assert not ended.has(_progress("another", noun=noun))


def test_a_retry_reopens_a_job() -> None:
    ended = EndedSubjects()
    ended.on_event(_stored("saccade.evt.acme.job.one.failed"))
    ended.on_event(_stored("saccade.evt.acme.job.one.retrying"))
    assert not ended.has(_progress("one"))


def test_the_oldest_ends_are_forgotten_and_other_subjects_are_ignored() -> None:
    ended = EndedSubjects(most=2)
    for subject_id in ("one", "two", "three"):
        ended.on_event(_stored(f"saccade.evt.acme.job.{subject_id}.succeeded"))
    ended.on_event(_stored("saccade.evt.acme.job.two"))
    assert [ended.has(_progress(subject_id)) for subject_id in ("one", "two", "three")] == [False, True, True]
    assert not ended.has("saccade.prog.acme")
