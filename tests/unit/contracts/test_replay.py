"""Replays: what a selection's subjects match, which part of it a target takes, and the states by their records."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.audit import AuditData, AuditRecord
from contracts.ids import new_id
from contracts.replay import (
    Replay,
    ReplayCounts,
    ReplayInto,
    ReplayPlan,
    ReplaySelection,
    ReplayState,
    fold,
    too_many_running,
)
from tests.harness.replays.plans import plan_into

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: The same in every process: they are in the names of tests, which pytest-xdist compares.
JOB, STAGE, WEBHOOK = (f"{prefix}_0198c0de-0000-7000-8000-000000000001" for prefix in ("job", "stg", "whk"))
STAGE += "-train-000"
IDS = (JOB, STAGE, new_id("ses"), new_id("upl"), WEBHOOK, "budget")
TYPES = ("job.failed", "job.submitted", "job.*", "session.opened", "session.*", "upload.created", "webhook.*")
SUBJECTS = [
    f"saccade.evt.{tenant}.{noun}.{subject_id}.{verb}"
    for tenant in ("a", "b")
    for noun, ids, verbs in (
        ("job", IDS[:2], ("failed", "submitted", "queued")),
        ("session", IDS[2:3], ("opened", "stopped")),
        ("upload", IDS[3:4], ("created",)),
        ("webhook", IDS[4:5], ("disabled",)),
        ("budget", IDS[5:], ("set",)),
    )
    for subject_id in ids
    for verb in verbs
]


def selected_by(pattern: str, subject: str) -> bool:
    """Return whether NATS would match: ``*`` stands for one token."""
    tokens, parts = pattern.split("."), subject.split(".")
    return len(tokens) == len(parts) and all(token in ("*", part) for token, part in zip(tokens, parts, strict=True))


def chosen(seed: int) -> ReplaySelection:
    chance = random.Random(seed)
    return ReplaySelection(
        tenants=tuple(chance.choice((["a"], ["a", "b"], ["*"], ["b", "b"]))),
        types=tuple(chance.choices(TYPES, k=chance.randrange(4))),
        subjects=tuple(chance.choices(IDS, k=chance.randrange(3))),
    )


@pytest.mark.parametrize("seed", range(60))
def test_filters_are_the_selection_and_count_no_event_twice(seed: int) -> None:
    selection = chosen(seed)
    for subject in SUBJECTS:
        hits = sum(selected_by(pattern, subject) for pattern in selection.filters())
        assert hits == selection.matches(subject), (selection, subject)


@pytest.mark.parametrize("seed", range(60))
def test_a_narrowed_selection_is_the_intersection(seed: int) -> None:
    selection, types = chosen(seed), chosen(seed + 1000).types
    narrowed = selection.narrowed(types)
    for subject in SUBJECTS:
        by_type = ReplaySelection(tenants=("*",), types=types).matches(subject)
        assert (narrowed is not None and narrowed.matches(subject)) == (selection.matches(subject) and by_type)


def test_a_type_of_another_noun_than_the_subjects_matches_nothing() -> None:
    assert ReplaySelection(tenants=("a",), types=("upload.created",), subjects=(JOB,)).filters() == ()


@pytest.mark.parametrize("text", ["sse", "file", "sandbox:copy-1", f"webhook:{IDS[4]}"])
def test_targets_are_read_and_written_alike(text: str) -> None:
    assert str(ReplayInto.parse(text)) == text


@pytest.mark.parametrize("text", ["", "sse:", "file:a", "webhook:whk_1", "sandbox:", "sandbox:A", "sse\n", "mail"])
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a target"):
        ReplayInto.parse(text)


def plan() -> ReplayPlan:
    made = plan_into(ReplayInto.parse("sse"), "a", NOW)
    return made.model_copy(update={"seconds": 1, "expires_at": NOW + timedelta(hours=1)})


def record(verb: str, sequence: int, *, intent: str | None = "ops_1", **details: Any) -> AuditRecord:
    data = AuditData(
        by="ada",
        why="because",
        request_id="req_1",
        phase="outcome" if intent else "intent",
        intent=intent,
        details=details,
        previous="",
    )
    at = NOW + timedelta(seconds=sequence)
    record_id = f"ops_{sequence}"
    return AuditRecord(sequence, record_id, at, "/notifier", "a", "replay", "rpl_1", verb, data, hash="")


def planned() -> Replay:
    replay = fold(None, record("planned", 2, plan=plan().model_dump(mode="json")))
    assert replay is not None
    return replay


def after(*verbs: str) -> Replay:
    replay: Replay | None = planned()
    for sequence, verb in enumerate(verbs, start=3):
        replay = fold(replay, record(verb, sequence))
    assert replay is not None
    return replay


@pytest.mark.parametrize(
    ("verbs", "state"),
    [
        ([], "planned"),
        (["started"], "running"),
        (["started", "paused"], "paused"),
        (["started", "paused", "resumed"], "running"),
        (["started", "completed"], "completed"),
        (["started", "paused", "completed"], "completed"),
        (["started", "failed"], "failed"),
        (["cancelled"], "cancelled"),
        (["started", "cancelled", "completed"], "cancelled"),
        (["paused"], "planned"),
        (["completed"], "planned"),
        (["start_failed", "start_abandoned"], "planned"),
        (["started", "completed", "started"], "completed"),
    ],
)
def test_the_state_follows_from_the_outcomes(verbs: list[str], state: str) -> None:
    assert after(*verbs).state == state


def test_what_is_only_asked_for_changes_nothing() -> None:
    replay = fold(planned(), record("cancelled", 3, intent=None))
    assert replay is not None
    assert replay.state is ReplayState.PLANNED


def test_what_was_sent_when_it_was_paused_is_known_later() -> None:
    counts = {"sent": 3, "skipped": 1, "failed": 2}
    replay = fold(after("started"), record("paused", 4, counts=counts))
    for sequence, verb in enumerate(("resumed", "paused", "resumed"), start=5):  # a later pause need not know any
        replay = fold(replay, record(verb, sequence))
    assert replay is not None
    assert replay.paused_counts == ReplayCounts.model_validate(counts)
    assert replay.counts is None


def test_a_plan_expires_unless_it_was_started() -> None:
    late = NOW + timedelta(hours=2)
    assert planned().state_at(NOW) is ReplayState.PLANNED
    assert planned().state_at(late) is ReplayState.EXPIRED
    assert after("started").state_at(late) is ReplayState.RUNNING


def test_of_three_starts_at_once_the_first_two_are_carried_out() -> None:
    replays = []
    for sequence in (10, 11, 12):
        replay = fold(planned(), record("start_requested", sequence, intent=None))
        assert replay is not None
        replays.append(replay)
    now = NOW + timedelta(seconds=13)
    assert [too_many_running(replays, "a", at, now, 20) for at in (10, 11, 12)] == [False, False, True]
    assert not too_many_running(replays, "a", 12, now + timedelta(minutes=1), 20), "those were given up"
    ended = fold(replays[0], record("start_failed", 13, intent="ops_10"))
    assert ended is not None
    assert not too_many_running([ended, *replays[1:]], "a", 12, now, 20)
