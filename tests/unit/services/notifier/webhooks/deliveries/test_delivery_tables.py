"""Delivery tables: plans, attempt records and redeliveries, in any order."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.events.base import Cursor
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt, DeliveryState, PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def file() -> DeliveryFile:
    return DeliveryFile(None)


@pytest.fixture
def view(file: DeliveryFile) -> DeliveryTables:
    return DeliveryTables(file)


def planned(sequence: int, subject: str = "job_1", endpoint_id: str = "whk_1") -> PlannedDelivery:
    return PlannedDelivery(endpoint_id, sequence, "acme", endpoint_id, f"evt_{sequence}", "job.queued", subject)


def attempt(number: int, record: int, again: datetime | None = None, status: int = 500) -> DeliveryAttempt:
    error = None if status == 200 else "http_status"
    return DeliveryAttempt(number, record, NOW, status, error, 12.5, "so what", again, "https://example.org:443")


def standing(view: DeliveryTables, sequence: int) -> tuple[DeliveryState, int]:
    delivery = view.delivery("whk_1", sequence)
    assert delivery
    return delivery.state, delivery.attempts


def test_an_event_is_planned_once(view: DeliveryTables) -> None:
    assert view.add(planned(1), NOW)
    assert not view.add(planned(1), LATER)
    assert [delivery.due for delivery in view.due("whk_1", 10)] == [NOW]


def test_deliveries_that_are_added_together_are_those_that_are_added_one_by_one(
    file: DeliveryFile, view: DeliveryTables
) -> None:
    plans = [planned(7, endpoint_id=f"whk_{number}") for number in range(25)]
    other = DeliveryTables(other_file := DeliveryFile(None))
    assert view.add_all(plans, NOW) == [plan for plan in plans if other.add(plan, NOW)] == plans
    assert file.all_rows() == other_file.all_rows()
    assert view.add_all([], NOW) == []


def test_of_deliveries_that_are_added_together_only_unknown_ones_are_new(view: DeliveryTables) -> None:
    plans = [planned(7, endpoint_id=f"whk_{number}") for number in range(4)]
    view.record_attempt(plans[1], attempt(1, 9, status=200), DeliveryState.DELIVERED)
    view.record_attempt(replace(plans[2], event_id="evt_old"), attempt(1, 10, status=200), DeliveryState.DELIVERED)
    assert [added.endpoint_id for added in view.add_all(plans, NOW)] == ["whk_0", "whk_2", "whk_3"]
    assert standing(view, 7) == (DeliveryState.DELIVERED, 1)
    assert view.attempts("whk_2", 7) == (), "it was of an earlier incarnation"


def test_record_and_plan_may_arrive_in_any_order(file: DeliveryFile, view: DeliveryTables) -> None:
    view.record_attempt(planned(1), attempt(1, 9, LATER), DeliveryState.PENDING)
    assert not view.add(planned(1), NOW), "known from its record"
    other = DeliveryTables(other_file := DeliveryFile(None))
    other.add(planned(1), NOW)
    other.record_attempt(planned(1), attempt(1, 9, LATER), DeliveryState.PENDING)
    assert file.all_rows() == other_file.all_rows()
    assert [delivery.due for delivery in view.due("whk_1", 10)] == [LATER]


def test_attempts_are_listed_in_order(view: DeliveryTables) -> None:
    view.add(planned(1), NOW)
    view.record_attempt(planned(1), attempt(1, 9, LATER), DeliveryState.PENDING)
    view.record_attempt(planned(1), attempt(2, 11, status=200), DeliveryState.DELIVERED)
    assert standing(view, 1) == (DeliveryState.DELIVERED, 2)
    assert view.attempts("whk_1", 1) == (attempt(1, 9, LATER), attempt(2, 11, status=200))
    assert view.count_pending() == 0


def test_an_event_of_a_new_incarnation_replaces_the_old_one(view: DeliveryTables) -> None:
    view.record_attempt(planned(1), attempt(1, 9, status=200), DeliveryState.DELIVERED)
    assert view.add(replace(planned(1), event_id="evt_new"), NOW)
    assert standing(view, 1) == (DeliveryState.PENDING, 0)
    assert view.attempts("whk_1", 1) == ()


def test_complete_to_is_before_the_first_delivery_without_a_record(file: DeliveryFile, view: DeliveryTables) -> None:
    for sequence in (3, 5, 8):
        view.add(planned(sequence), NOW)
    file.advance(planned=9)
    assert view.complete_to() == 2
    view.record_attempt(planned(3), attempt(1, 1, LATER), DeliveryState.PENDING)
    assert view.complete_to() == 4, "a retry is known from its record"
    view.cancel("whk_1", 5)
    assert view.complete_to() == 7
    view.record_attempt(planned(8), attempt(1, 2, status=200), DeliveryState.DELIVERED)
    assert view.complete_to() == 9
    view.redeliver(planned(2), 3, NOW)
    assert view.complete_to() == 9, "a redelivery is known from its record"


def test_a_redelivery_restarts_the_schedule_and_continues_the_attempt_count(view: DeliveryTables) -> None:
    view.add(planned(1), NOW)
    for number in range(1, 9):
        last = number == 8
        state = DeliveryState.FAILED if last else DeliveryState.PENDING
        view.record_attempt(planned(1), attempt(number, number, None if last else LATER), state)
    again = view.redeliver(planned(1), 20, LATER)
    assert again
    assert (again.state, again.attempts, again.scheduled_from, again.due) == (DeliveryState.PENDING, 8, 8, LATER)
    assert view.redeliver(planned(1), 20, LATER) is None, "a record asks once"


def test_a_redelivery_that_was_attempted_is_not_repeated_by_its_record(view: DeliveryTables) -> None:
    view.add(planned(1), NOW)
    view.record_attempt(planned(1), attempt(1, 4, LATER), DeliveryState.PENDING)
    view.record_attempt(planned(1), attempt(2, 30, LATER), DeliveryState.PENDING)
    assert view.redeliver(planned(1), 20, NOW) is None
    delivery = view.delivery("whk_1", 1)
    assert delivery
    assert (delivery.due, delivery.scheduled_from) == (LATER, 1)


def test_only_the_first_of_each_subject_is_a_head(view: DeliveryTables) -> None:
    for sequence, subject in ((1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")):
        view.add(planned(sequence, subject), NOW)
    view.record_attempt(planned(1, "a"), attempt(1, 1, LATER), DeliveryState.PENDING)
    assert [delivery.sequence for delivery in view.heads("whk_1", 10)] == [2, 5, 1]
    view.record_attempt(planned(2, "b"), attempt(1, 2, status=200), DeliveryState.DELIVERED)
    head = view.head("whk_1", "b")
    assert head
    assert head.sequence == 4
    assert view.head("whk_1", "x") is None


def test_pages_start_with_the_newest_event(view: DeliveryTables) -> None:
    for sequence in range(1, 8):
        view.add(planned(sequence), NOW)
        view.add(planned(sequence, endpoint_id="whk_2"), NOW)
    view.record_attempt(planned(4), attempt(1, 1, status=200), DeliveryState.DELIVERED)
    pages, before = [], None
    while True:
        found, before = view.list("whk_1", limit=3, before=before)
        pages.append([delivery.sequence for delivery in found])
        if before is None:
            break
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    found, more = view.list("whk_1", DeliveryState.DELIVERED)
    assert ([delivery.sequence for delivery in found], more) == ([4], None)


def test_prune_removes_completed_deliveries_only(view: DeliveryTables) -> None:
    for sequence in (1, 2, 3, 4):
        view.add(planned(sequence), NOW)
    view.record_attempt(planned(1), attempt(1, 10, status=200), DeliveryState.DELIVERED)
    view.record_attempt(planned(2), attempt(1, 11, LATER), DeliveryState.PENDING)
    view.record_attempt(planned(3), attempt(1, 12, status=200), DeliveryState.DELIVERED)
    view.cancel("whk_1", 4)
    view.prune(event=4, record=12)
    assert [delivery.sequence for delivery in view.list("whk_1")[0]] == [4, 3, 2]
    view.prune(event=5, record=12)
    assert [delivery.sequence for delivery in view.list("whk_1")[0]] == [3, 2]


def test_a_failure_run_ends_with_a_success_or_a_pause(file: DeliveryFile) -> None:
    receivers = ReceiverTables(file)
    for hours in (0, 10, 20, 40):
        receivers.record_failure("whk_1", "acme", NOW + timedelta(hours=hours), 500, gone=False)
    failures = receivers.failure_run("whk_1")
    assert failures
    assert (failures.failing_since, failures.failed_at) == (NOW, NOW + timedelta(hours=40))
    receivers.record_failure("whk_1", "acme", NOW + timedelta(hours=65), None, gone=False)
    failures = receivers.failure_run("whk_1")
    assert failures
    assert failures.failing_since == failures.failed_at == NOW + timedelta(hours=65)
    receivers.record_success("whk_1")
    assert receivers.failure_run("whk_1") is None


def test_a_projection_continues_after_its_last_commit(tmp_path: Path) -> None:
    first = DeliveryFile(tmp_path)
    first.reset("e1", "r1")
    DeliveryTables(first).add(planned(1), NOW)
    first.advance(planned=7, recorded=3)
    first.close()
    second = DeliveryFile(tmp_path)
    assert (second.events_epoch, second.planned, second.records_epoch, second.recorded) == ("e1", 7, "r1", 3)
    assert standing(DeliveryTables(second), 1) == (DeliveryState.PENDING, 0)
    second.close()


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_file_is_recreated(tmp_path: Path, damage: bytes) -> None:
    first = DeliveryFile(tmp_path)
    DeliveryTables(first).add(planned(1), NOW)
    first.advance(planned=7)
    first.close()
    (tmp_path / "deliveries.sqlite3").write_bytes(damage)
    second = DeliveryFile(tmp_path)
    assert second.planned == 0
    assert DeliveryTables(second).count_pending() == 0
    second.close()


def test_pending_deliveries_are_counted_as_they_change(file: DeliveryFile, view: DeliveryTables) -> None:
    chance = random.Random(7)

    def change(record: int) -> None:
        plan = planned(chance.randrange(1, 9), endpoint_id=f"whk_{chance.randrange(3)}")
        plan = replace(plan, event_id=f"{plan.event_id}_{chance.randrange(2)}")
        match chance.randrange(6):
            case 0:
                view.add(plan, NOW)
            case 1:
                view.add_all([replace(plan, endpoint_id=f"whk_{number}") for number in range(3)], NOW)
            case 2:
                state = chance.choice((DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.CANCELLED))
                view.record_attempt(plan, attempt(1, record), state)
            case 3:
                view.redeliver(plan, record, NOW)
            case 4:
                view.cancel(plan.endpoint_id, chance.choice((None, plan.sequence)))
            case 5 if record % 50 == 0:
                file.rewind(Cursor("e1", 6), Cursor("r1", record), 6)

    assert view.count_pending() == 0
    seen = set()
    for record in range(1, 2000):
        change(record)
        counted = view.count_pending()
        assert counted == file.rows("SELECT count(*) FROM deliveries WHERE state = 'pending'")[0][0], record
        seen.add(counted)
    assert len(seen) > 10
    file.reset("e2", "r2")
    assert view.count_pending() == 0


def test_the_count_of_pending_deliveries_is_not_a_scan(file: DeliveryFile, view: DeliveryTables) -> None:
    view.count_pending()
    view.add_all([planned(1), planned(1, endpoint_id="whk_2")], NOW)
    statements: list[str] = []
    file._database.set_trace_callback(statements.append)
    assert view.count_pending() == 2
    assert not statements
