"""Filters of subjects: what they match, cover and become when they are joined or narrowed to a type."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.history.event_lines import HistoryEvent, encode_line
from kit.history.subjects import (
    SubjectFilter,
    covering,
    covers,
    matches,
    matches_any,
    narrowed,
    overlap,
    type_in,
    without_covered,
)

TOKENS = st.sampled_from(["a", "b", "c"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5).map(".".join)
PATTERNS = st.builds(
    lambda parts, rest: ".".join([*parts, ">"] if rest else parts),
    st.lists(TOKENS | st.just("*"), min_size=1, max_size=4),
    st.booleans(),
)


@given(st.lists(PATTERNS, min_size=1, max_size=4), SUBJECTS)
def test_a_joined_filter_matches_what_its_parts_match(patterns: list[str], subject: str) -> None:
    if matches_any(patterns, subject):
        assert matches(covering(patterns), subject)


@given(st.lists(PATTERNS, min_size=1, max_size=4), SUBJECTS)
def test_filters_without_the_covered_match_the_same(patterns: list[str], subject: str) -> None:
    assert matches_any(without_covered(patterns), subject) == matches_any(patterns, subject)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_a_filter_that_covers_another_matches_what_it_matches(pattern: str, other: str, subject: str) -> None:
    if covers(pattern, other) and matches(other, subject):
        assert matches(pattern, subject)


@given(PATTERNS, PATTERNS, SUBJECTS)
def test_filters_that_match_the_same_subject_overlap(pattern: str, other: str, subject: str) -> None:
    assert overlap(pattern, other) == overlap(other, pattern)
    if matches(pattern, subject) and matches(other, subject):
        assert overlap(pattern, other)


def test_filters() -> None:
    assert not overlap("a.b.*", "a.c.*")
    assert not overlap("a.b.>", "a.b")
    assert type_in("saccade.evt.*.job.*.failed") == "job.failed"
    assert [type_in(f"saccade.evt.acme.{rest}") for rest in ("job.x.*", "*.x.failed", "job.>", ">")] == [None] * 4
    assert matches("saccade.evt.*.job.>", "saccade.evt.acme.job.x.queued")
    assert not matches("saccade.evt.*.job.>", "saccade.evt.acme.job")
    assert not matches("saccade.evt.*", "saccade.evt.acme.job")
    assert narrowed(">", "job.failed") == ["saccade.evt.*.job.*.failed"]
    assert narrowed("saccade.evt.acme.>", "job.failed") == ["saccade.evt.acme.job.*.failed"]
    assert narrowed("saccade.evt.*.session.>", "job.failed") == []
    assert narrowed("saccade.evt.*.job.x.*", "job.failed") == ["saccade.evt.*.job.x.failed"]
    assert narrowed("saccade.evt.*.*.*.failed", "job.queued") == []
    assert covering(["saccade.evt.a.job.x.queued", "saccade.evt.b.job.x.started"]) == "saccade.evt.*.job.x.*"
    assert without_covered(["a.b", "a.*", "a.>", "a.>"]) == ["a.>"]


@given(st.lists(PATTERNS, min_size=1, max_size=4), SUBJECTS)
def test_filters_as_one_match_what_each_matches(patterns: list[str], subject: str) -> None:
    assert SubjectFilter(patterns).matches(subject) == matches_any(patterns, subject)


IDS = st.sampled_from(["job_1", "job_2", "a b", 'with"quote', "ümlaut"])
OF_EVENTS = st.builds("saccade.evt.{}.{}.{}.{}".format, TOKENS, TOKENS, IDS, TOKENS)
OF_IDS = st.builds("saccade.evt.{}.{}.{}.{}".format, TOKENS, TOKENS | st.just("*"), IDS, TOKENS | st.sampled_from("*>"))


@given(st.lists(OF_IDS | PATTERNS, min_size=1, max_size=3), OF_EVENTS | SUBJECTS)
def test_lines_of_matching_events_pass_the_test_of_a_filter(patterns: list[str], subject: str) -> None:
    wanted = SubjectFilter(patterns)
    assert wanted.matches(subject) == matches_any(patterns, subject)
    is_wanted = wanted.line_test()
    line = encode_line(HistoryEvent(17, subject, "2026-11-23T07:00:00.5Z", "evt_1", b'{"time":1.5}'))
    assert is_wanted is None or is_wanted(line) or not wanted.matches(subject)


def test_lines_of_other_ids_are_left_out() -> None:
    is_wanted = SubjectFilter(["saccade.evt.acme.job.job_1.*", "saccade.evt.acme.job.job_2.*"]).line_test()
    assert is_wanted is not None
    subjects = [f"saccade.evt.acme.job.job_{number}.queued" for number in range(4)]
    lines = [encode_line(HistoryEvent(17, subject, "2026-11-23T07:00:00.5Z", "x", b"{}")) for subject in subjects]
    assert [is_wanted(line) for line in lines] == [False, True, True, False]
