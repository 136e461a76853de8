"""Groups of uploads: the fold of their events, when they end, and what the dispatcher keeps of them in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.events import EventData
from contracts.events.rule import RuleGroup
from contracts.ids import new_id, time_of
from contracts.rule_matching import OPEN_GROUP_S
from services.dispatcher.rules import group_book
from services.dispatcher.rules.group_book import GroupBook
from services.dispatcher.rules.upload_group import (
    UploadGroup,
    end_reason,
    fewest_uploads,
    group_id,
    group_job_id,
    most_uploads,
)
from tests.harness.rules.rule_events import EPOCH, LAPS, added, closed, envelope, rule, workload

PAIR = rule("laps", group=RuleGroup(by="metadata.lap", needs=2))
QUIET = rule(group=RuleGroup(quiet_s=60))


class Book:
    """A book of groups with a clock of sequences."""

    def __init__(self) -> None:
        self.groups = GroupBook()
        self.sequence = 0

    def fold(self, data: EventData, value: str = "", number: int = 1, at_s: float = 0.0) -> UploadGroup | None:
        self.sequence += 1
        subject_id = group_id(PAIR.id, value, number)
        return self.groups.fold(envelope(data, subject_id, EPOCH + timedelta(seconds=at_s)), self.sequence)

    def add(self, upload_id: str, value: str = "", number: int = 1, at_s: float = 0.0) -> UploadGroup:
        group = self.fold(added(PAIR.id, upload_id, value, number), value, number, at_s)
        assert group
        return group


def reason(group: UploadGroup, of: Any, after_s: float, most: int = 2) -> str | None:
    return end_reason(group, of, most, EPOCH + timedelta(seconds=after_s))


def test_a_group_ends_with_the_number_of_uploads_that_it_needs() -> None:
    book = Book()
    assert reason(book.add("upl_a"), PAIR, 3600) is None
    assert reason(book.add("upl_b"), PAIR, 0) == "complete"


def test_a_quiet_group_ends_after_its_newest_upload_and_not_after_the_last_one_seen() -> None:
    book = Book()
    book.add("upl_b", at_s=100)
    group = book.add("upl_a", at_s=40)
    assert reason(group, QUIET, 159, most=8) is None
    assert reason(group, QUIET, 160, most=8) == "quiet"


def test_a_group_that_never_completes_ends_after_a_week() -> None:
    group = Book().add("upl_a")
    assert reason(group, PAIR, OPEN_GROUP_S - 1) is None
    assert reason(group, PAIR, OPEN_GROUP_S) == "quiet"


def test_a_group_of_a_rule_that_makes_none_any_more_ends_at_once() -> None:
    assert reason(Book().add("upl_a"), rule(), 0) == "quiet"


@pytest.mark.parametrize(
    ("of", "on", "most", "fewest"),
    [
        (PAIR, LAPS, 2, 2),
        (QUIET, workload(), 8, 1),
        (QUIET, None, 500, 1),
        (rule(group=RuleGroup(quiet_s=5, minimum=3), inputs=("no_such",)), workload(), 500, 3),
        (rule(), workload(), 8, 1),
    ],
)
def test_most_and_fewest_uploads_of_a_group(of: Any, on: Any, most: int, fewest: int) -> None:
    assert (most_uploads(of.definition, on), fewest_uploads(of.definition)) == (most, fewest)


def test_an_upload_that_is_deleted_leaves_its_group_which_waits_for_another() -> None:
    book = Book()
    book.add("upl_a")
    book.add("upl_b")
    assert book.groups.leave_out("upl_a") == [group_id(PAIR.id, "", 1)]
    assert book.groups.leave_out("upl_x") == []
    group = book.add("upl_c")
    assert group.upload_ids == ("upl_b", "upl_c")


def test_an_upload_that_was_deleted_before_its_addition_was_stored_is_not_counted() -> None:
    book = Book()
    book.add("upl_a")
    book.groups.leave_out("upl_b")
    assert book.add("upl_b").upload_ids == ("upl_a",)
    assert book.add("upl_c").upload_ids == ("upl_a", "upl_c")


def test_the_memory_of_deleted_uploads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_book, "_FAILED_KEPT", 10)
    book = Book()
    for number in range(50):
        book.groups.leave_out(f"upl_{number}")
    assert {name: len(value) for name, value in vars(book.groups).items() if value} == {"_failed": 10}
    assert book.add("upl_49").upload_ids == ()


def test_a_closed_group_takes_nothing_and_is_kept_until_its_job_is_submitted() -> None:
    book = Book()
    book.add("upl_a")
    group = book.fold(closed(PAIR.id, "upl_a"))
    assert group
    assert (group.closed_sequence, group.upload_ids) == (2, ("upl_a",))
    again = book.fold(added(PAIR.id, "upl_b"))
    assert again
    assert again.upload_ids == ("upl_a",)
    last = book.groups.last_closed(PAIR.id, "")
    assert last
    assert last.number == 1
    book.groups.drop(group.id)
    assert len(book.groups) == 0
    assert book.fold(closed(PAIR.id, "upl_a")) is None


def test_nothing_of_settled_groups_stays_but_a_bounded_memory_of_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_book, "_LAST_KEPT", 10)
    book = Book()
    for lap in range(50):
        group = book.add(f"upl_{lap}", str(lap))
        book.fold(closed(PAIR.id, f"upl_{lap}"), str(lap))
        book.groups.drop(group.id)
    kept = {name: len(value) for name, value in vars(book.groups).items()}
    assert kept.pop("_last_closed") == 10
    assert set(kept.values()) == {0}, kept
    book.add("upl_new", "new")
    book.groups.drop_rule(PAIR.id)
    assert {len(value) for value in vars(book.groups).values()} == {0}


def test_ids_of_groups_and_their_jobs_follow_from_what_they_are_of() -> None:
    first, second = new_id("upl"), new_id("upl")
    assert group_id(PAIR.id, "7", 1) == group_id(PAIR.id, "7", 1)
    assert len({group_id(PAIR.id, "7", 1), group_id(PAIR.id, "7", 2), group_id(PAIR.id, "8", 1)}) == 3
    job_id = group_job_id(group_id(PAIR.id, "7", 1), (second, first))
    assert time_of(job_id) == max(time_of(first), time_of(second)), "a job is listed by the time of its newest upload"
