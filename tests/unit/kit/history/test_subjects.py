"""Filters of subjects: what they match, cover and become when they are joined or narrowed to a type."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.history.subjects import covering, covers, matches, matches_any, narrowed, overlap, type_in, without_covered

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
