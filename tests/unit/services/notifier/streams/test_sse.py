"""Frames, cursors, selections and snapshots of server-sent events."""

from __future__ import annotations

import json
import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saccade_client.sse import SseParser

from contracts.errors import SaccadeError
from contracts.events.base import Cursor, EventData, encode
from contracts.events.job import JobQueued, JobStarted, JobStarting, JobSubmitted
from contracts.events.rule import GroupUploadAdded, RuleDeleted
from contracts.ids import new_id
from services.notifier.streams.snapshot import fold_partial_job, snapshot_frame
from services.notifier.streams.sse import (
    HEARTBEAT,
    Selection,
    StreamEvent,
    frame,
    parse_cursor,
    parse_since,
    parse_types,
    stream_head,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
JOB = new_id("job")


def event(data: EventData, sequence: int = 7, tenant: str = "acme") -> StreamEvent:
    message = encode(data, tenant=tenant, subject_id=JOB, source="/test", time=NOW)
    return StreamEvent.of(message.subject, message.body, "abc", sequence)


def test_a_durable_event_carries_its_cursor_and_its_own_bytes() -> None:
    queued = event(JobQueued(position=3))
    assert queued.frame == b"event: job.queued\ndata: " + queued.body + b"\nid: abc.7\n\n"
    assert queued.frame is queued.frame, "made once"


def test_progress_carries_no_cursor() -> None:
    assert b"id:" not in event(JobQueued(position=3), sequence=0).frame


@given(
    st.dictionaries(st.text(), st.text() | st.integers() | st.none()),
    st.sampled_from([None, 2]),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_any_json_is_one_block_however_it_is_split(
    value: dict[str, object], indent: int | None, cuts: list[int]
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    wire = stream_head() + HEARTBEAT + frame("x.y", body, "abc.1") + HEARTBEAT + HEARTBEAT + frame("gap", b"{}")
    chunks, at = [], 0
    while at < len(wire):
        size = cuts[len(chunks) % len(cuts)]
        chunks.append(wire[at : at + size])
        at += size
    parser = SseParser()
    first, second = [block for chunk in chunks for block in parser.push(chunk)]
    assert (first.event, first.id) == ("x.y", "abc.1")
    assert parser.retry_ms
    assert 2000 <= parser.retry_ms <= 5000
    assert len(first.data) == 1
    assert json.loads(first.data[0].decode("utf-8", "surrogatepass")) == value
    assert (second.event, second.id, second.data) == ("gap", None, [b"{}"])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3600", NOW - timedelta(hours=1)),
        ("90s", NOW - timedelta(seconds=90)),
        ("abc0.12", Cursor("abc0", 12)),
        ("12.5", Cursor("12", 5)),
        ("2026-01-31T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-01-31T12:00:00+02:00", NOW - timedelta(hours=2)),
        ("2026-01-31T12:00:00 02:00", NOW - timedelta(hours=2)),
        ("2026-01-31T10:00:00.5", NOW - timedelta(hours=2) + timedelta(seconds=0.5)),
    ],
)
def test_since_is_a_cursor_a_time_or_seconds(text: str, wanted: object) -> None:
    assert parse_since(text, NOW) == wanted


@pytest.mark.parametrize("text", ["yesterday", "-5", "1e3", "abc.", ".5", "9" * 30, "2026-13-01T00:00:00Z"])
def test_any_other_since_is_refused(text: str) -> None:
    with pytest.raises(SaccadeError, match="since"):
        parse_since(text, NOW)


def test_the_header_precedes_the_query_and_an_invalid_cursor_is_an_unknown_epoch() -> None:
    assert parse_cursor("a1.5", "b2.6") == Cursor("a1", 5)
    assert parse_cursor(None, " ", "b2.6") == Cursor("b2", 6)
    assert parse_cursor(None, "", None) is None
    strange = parse_cursor("x" * 500)
    assert strange
    assert (strange.epoch, strange.sequence) == ("", 0)


@pytest.mark.parametrize("sent", ["a1.5", "a1.0005", " a1.5", "x" * 500, "a1.", "é\U0001f600.3", "a1." + "9" * 40])
def test_a_cursor_is_repeated_as_it_was_sent(sent: str) -> None:
    assert str(parse_cursor(sent)) == sent
    if sent.strip().startswith("a1.") and sent.strip() != "a1." and len(sent) < 20:
        assert str(parse_since(sent, NOW)) == sent


def test_types_are_names_or_a_whole_noun() -> None:
    assert parse_types(["job.succeeded, job.failed", "upload.*"]) == {"job.succeeded", "job.failed", "upload.*"}
    for wrong in ("job", "*", "job.>", "Job.failed", "job.failed.x"):
        with pytest.raises(SaccadeError, match="types"):
            parse_types([wrong])


def test_of_too_many_types_the_number_is_wrong_and_not_a_name() -> None:
    names = [f"{noun}.{letter}" for noun in ("job", "rule") for letter in string.ascii_lowercase]
    assert len(parse_types(names[:50])) == 50
    with pytest.raises(SaccadeError, match=r"types: 51 are given, at most 50"):
        parse_types(names[:51])


@given(
    st.sampled_from(["acme", "rival"]), st.booleans(), st.sampled_from([(), ("job.queued",), ("job.*",), ("upload.*",)])
)
def test_no_selection_matches_another_tenants_event(tenant: str, one_job: bool, types: tuple[str, ...]) -> None:
    selection = Selection("acme", JOB if one_job else None, frozenset(types))
    taken = selection.matches(event(JobQueued(position=0), tenant=tenant))
    assert taken == (tenant == "acme" and types != ("upload.*",))
    assert selection.subjects == f"saccade.evt.acme.{'job' if one_job else '*'}.{JOB if one_job else '*'}.*"


@pytest.mark.parametrize(
    ("subject_id", "noun", "data"),
    [
        ("rul_1", "rule", RuleDeleted()),
        ("grp_1", "group", GroupUploadAdded(rule_id="rul_1", value="7", number=1, upload_id="upl_1", count=1)),
    ],
    ids=["rule", "group"],
)
def test_events_of_rules_and_groups_are_selected_by_type_and_by_id(subject_id: str, noun: str, data: EventData) -> None:
    message = encode(data, tenant="acme", subject_id=subject_id, source="/test")
    sent = StreamEvent.of(message.subject, message.body, "e1", 3)
    assert Selection("acme", subject_id).subjects == f"saccade.evt.acme.{noun}.{subject_id}.*"
    assert Selection("acme", subject_id).matches(sent)
    assert Selection("acme", types=frozenset({f"{noun}.*"})).matches(sent)
    assert not Selection("acme", types=frozenset({"job.*"})).matches(sent)


def test_a_snapshot_is_the_fold_with_unknown_fields_null() -> None:
    begun = [
        event(JobSubmitted(workload="w", workload_version="1", inputs={}, params={}, deadline=NOW), 3),
        event(JobQueued(position=0), 4),
        event(JobStarting(attempt=1, run_id="r", executor="local", device="cpu"), 5),
        event(JobStarted(attempt=1, run_id="r", device="cpu", worker="w"), 6),
    ]
    whole = fold_partial_job(begun)
    assert whole
    (block,) = SseParser().push(snapshot_frame(whole))
    fields = json.loads(block.data[0])
    assert (block.event, block.id) == ("snapshot", None)
    assert (fields["state"], fields["sequence"], fields["submitted"]["workload"]) == ("running", 6, "w")
    strange = StreamEvent("acme", "job", JOB, "job.levitated", begun[1].body.replace(b"queued", b"levitated"), "abc", 5)
    assert fold_partial_job([*begun[:2], strange, *begun[2:]]) == whole
    rest = fold_partial_job(begun[2:])
    assert rest
    told_of_rest = json.loads(SseParser().push(snapshot_frame(rest))[0].data[0])
    unknown = {"submitted", "created_at", "first_sequence", "deadline"}
    assert {name: told_of_rest[name] for name in unknown} == dict.fromkeys(unknown) | {"first_sequence": 0}
    assert {name: value for name, value in told_of_rest.items() if name not in unknown} == {
        name: value for name, value in fields.items() if name not in unknown
    }
