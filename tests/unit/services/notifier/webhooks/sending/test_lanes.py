"""Lanes: limits per lane and in total, order, rate, and bounded memory."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise

from services.notifier.webhooks.deliveries.delivery import DeliveryState, TrackedDelivery
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.sending.circuit_breaker import FAILURES, PROBE_S
from services.notifier.webhooks.sending.lanes import CONCURRENCY, IN_MEMORY, Lane, Lanes

EPOCH = datetime.fromtimestamp(0, UTC)


def delivery(sequence: int, due_s: float = 0.0, subject: str | None = None, lane: str = "whk_1") -> TrackedDelivery:
    return TrackedDelivery(
        endpoint_id=lane,
        sequence=sequence,
        tenant="acme",
        lane=lane,
        event_id=f"evt_{sequence}",
        event_type="job.queued",
        event_subject=subject or f"job_{sequence}",
        state=DeliveryState.PENDING,
        attempts=0,
        scheduled_from=0,
        due=datetime.fromtimestamp(due_s, UTC),
        last_status=None,
        last_error=None,
        updated_at=EPOCH,
    )


def lane(*waiting: TrackedDelivery) -> Lane:
    made = Lane("whk_1")
    made.load(waiting, more=False)
    return made


def taken(one: Lane, now: float) -> list[int]:
    found = []
    while got := one.take(now):
        found.append(got.sequence)
    return found


class Queue:
    """Pending deliveries of the projection, from which lanes load."""

    def __init__(self, deliveries: list[TrackedDelivery]) -> None:
        self.deliveries = {queued.sequence: queued for queued in deliveries}
        self.loads = 0

    def load(self, one: Lane) -> None:
        self.loads += 1
        waiting = sorted(self.deliveries.values(), key=lambda each: (each.due, each.sequence))
        limit = IN_MEMORY + CONCURRENCY
        one.load(waiting[:limit], more=len(waiting) > limit)


def test_the_first_due_is_taken_first_and_not_early() -> None:
    one = lane(delivery(3, due_s=5), delivery(1, due_s=20), delivery(2, due_s=5))
    assert one.take(4.9) is None
    assert one.wake_at(0) == 5
    assert taken(one, 5) == [2, 3]
    assert one.wake_at(5) == 20


def test_at_most_four_concurrent_attempts() -> None:
    one = lane(*(delivery(number) for number in range(10)))
    assert taken(one, 0) == [0, 1, 2, 3]
    assert one.wake_at(0) == math.inf
    one.finish(("whk_1", 2), latency_ms=5)
    assert taken(one, 0) == [4]


def test_an_ordered_lane_sends_one_per_subject_at_a_time() -> None:
    one = Lane("whk_1")
    one.ordered = True
    one.load([delivery(1, subject="a"), delivery(2, subject="b"), delivery(3, subject="a")], more=False)
    assert taken(one, 0) == [1, 2]
    assert one.wake_at(0) == math.inf, "it is woken when one of them ends"
    one.finish(("whk_1", 1), latency_ms=5)
    assert taken(one, 0) == [3]


def test_a_rate_spreads_attempts_after_a_burst_of_one_second() -> None:
    one = lane(*(delivery(number) for number in range(8)))
    one.rate.per_s = 2
    times = []
    now = 100.0
    while one.wake_at(now) < math.inf:
        now = max(now, one.wake_at(now))
        got = one.take(now)
        assert got
        times.append(now)
        one.finish(got.key, latency_ms=1)
    assert times[:2] == [100, 100]
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times[1:]))


def test_a_lane_holds_what_is_due_first_and_loads_the_rest_later() -> None:
    queue = Queue([delivery(number, due_s=number) for number in range(5000)])
    lanes = Lanes(fast=5000)
    one = lanes.lane("whk_1")
    order, now = [], 10_000.0
    while got := lanes.take(one, now, queue.load):
        waiting, pool = got
        assert one.size <= IN_MEMORY + CONCURRENCY
        order.append(waiting.sequence)
        del queue.deliveries[waiting.sequence]
        one.finish(waiting.key, latency_ms=1)
        lanes.release(pool, "")
    assert order == list(range(5000))
    assert 5 <= queue.loads <= 6


def test_a_delivery_due_now_precedes_those_due_tomorrow() -> None:
    later = [delivery(number, due_s=86_400) for number in range(IN_MEMORY)]
    one = Lane("whk_1")
    one.load(later, more=True)
    one.offer(delivery(5000, due_s=0))
    assert one.size == IN_MEMORY
    assert taken(one, 0) == [5000]
    one.offer(delivery(5001, due_s=90_000))
    assert one.size == IN_MEMORY - 1, "it stays in the view"


def test_a_delivery_offered_again_moves_to_its_new_place() -> None:
    one = lane(delivery(1, due_s=50), delivery(2, due_s=10))
    one.offer(delivery(1, due_s=0))
    assert one.size == 2
    assert taken(one, 10) == [1, 2]
    one.offer(delivery(1, due_s=0))
    assert one.size == 0, "it is out already"


def test_emails_have_slots_of_their_own_however_slow_they_are() -> None:
    lanes = Lanes(fast=4, slow=4, email=2)
    queues = {name: Queue([delivery(n, lane=name) for n in range(20)]) for name in ("mail", "post", "web")}
    for name in ("mail", "post"):
        lanes.lane(name).email = True
    lanes.lane("post").finish(("post", -1), latency_ms=15_000)
    taken_from = []
    for name in ("mail", "post", "web"):
        while got := lanes.take(lanes.lane(name), 0, queues[name].load):
            taken_from.append((name, got[1]))
    assert taken_from == [("mail", "email")] * 2 + [("web", "fast")] * 4


def test_slow_receivers_cannot_use_the_slots_of_fast_ones() -> None:
    lanes = Lanes(fast=4, slow=2)
    queues = {name: Queue([delivery(n, lane=name) for n in range(20)]) for name in ("slow", "dead", "well")}
    for _ in range(3):
        lanes.lane("slow").finish(("slow", -1), latency_ms=15_000)
    dead = lanes.lane("dead").breaker
    for _ in range(FAILURES):
        dead.failed(0)
    now = PROBE_S
    out: list[tuple[str, bool]] = []
    for name in ("slow", "dead", "slow", "dead", "well"):
        one = lanes.lane(name)
        while got := lanes.take(one, now, queues[name].load):
            out.append((name, got[1]))
        lanes.schedule(one, now)
    assert out == [("slow", "slow")] * 2 + [("well", "fast")] * 4
    assert lanes.due(now) is None, "who waits for a place is not asked again and again"
    lanes.lane("slow").finish(("slow", 0), latency_ms=15_000)
    lanes.release("slow", "")
    lanes.schedule(lanes.lane("slow"), now)
    first = lanes.due(now)
    assert first
    assert first.name == "slow", "who has waited the longest"
    del queues["slow"].deliveries[0]
    first.load([], more=False)
    lanes.schedule(first, now)
    second = lanes.due(now)
    assert second
    assert second.name == "dead", "the place that the first did not take"
    assert lanes.take(second, now, queues["dead"].load)


def test_a_tenant_whose_receivers_hang_leaves_slots_to_the_others() -> None:
    lanes = Lanes(fast=8)
    names = [f"hang{number}" for number in range(10)] + ["well"]
    queues = {name: Queue([delivery(n, lane=name) for n in range(20)]) for name in names}
    taken_from: list[str] = []
    for name in names:
        one = lanes.lane(name)
        one.tenant = "acme" if name == "well" else "greedy"
        while lanes.take(one, 0, queues[name].load):
            taken_from.append(name)
        lanes.schedule(one, 0)
    assert taken_from == ["hang0"] * 4 + ["hang1"] * 4 + ["well"] * 4
    assert lanes.due(0) is None, "lanes of a tenant without a slot are not asked again and again"
    lanes.release("fast", "greedy")
    lanes.schedule(lanes.lane("hang0"), 0)
    assert lanes.due(0) is None, "it has seven and five are free"
    for _ in range(2):
        lanes.release("fast", "greedy")
    lanes.schedule(lanes.lane("hang0"), 0)
    waiting = lanes.due(0)
    assert waiting
    assert waiting.name == "hang2", "who has waited the longest"


def test_a_receiver_that_is_fast_again_counts_as_fast() -> None:
    one = Lane("whk_1")
    one.finish(("whk_1", 1), latency_ms=15_000)
    assert one.slow
    for _ in range(10):
        one.finish(("whk_1", 1), latency_ms=20)
    assert not one.slow


def test_an_idle_lane_is_removed_unless_it_is_paused() -> None:
    lanes = Lanes()
    for name in ("idle", "paused"):
        lanes.lane(name).load([], more=False)
    lanes.lane("paused").breaker.pause(100)
    for name in ("idle", "paused"):
        lanes.schedule(lanes.lane(name), 50)
    assert lanes.get("idle") is None
    assert lanes.get("paused") is not None


def test_lanes_are_checked_once_when_due() -> None:
    lanes = Lanes()
    lanes.wake("b", 20)
    lanes.wake("a", 10)
    lanes.wake("b", 5)
    lanes.wake("b", 30)
    assert lanes.next_at() == 5
    names = []
    for now in (4, 5, 6, 10, 25, 40):
        while one := lanes.due(now):
            names.append((now, one.name))
    assert names == [(5, "b"), (10, "a")]


def test_tenants_take_turns_in_being_checked_however_many_lanes_each_has() -> None:
    lanes = Lanes()
    for number in range(100):
        lanes.lane(f"greedy{number}").tenant = "greedy"
        lanes.wake(f"greedy{number}", 1)
    first = lanes.due(10)
    assert first
    assert first.name == "greedy0"
    lanes.lane("own").tenant = "acme"
    lanes.wake("own", 9)
    lanes.wake("greedy1", 5)
    found = [first.name]
    while one := lanes.due(10):
        found.append(one.name)
    assert found.index("own") == 2, "not behind the hundred that were due before it"
    assert sorted(found) == sorted({f"greedy{number}" for number in range(100)} | {"own"}), "each is checked once"
    assert lanes.next_at() == math.inf


def test_a_rate_below_one_a_second_is_kept_from_the_first_attempt_on() -> None:
    one = lane(*(delivery(number) for number in range(5)))
    one.rate.per_s = 0.01
    sent = []
    now = 1000.0
    while one.size:
        if one.take(now):
            sent.append(now)
            one.in_flight.clear()
        now += 10
    assert [later - earlier for earlier, later in pairwise(sent)] == [100.0] * 4


def test_nothing_is_sent_in_quiet_hours_and_everything_afterwards() -> None:
    one = lane(delivery(1), delivery(2))
    one.quiet_hours = QuietHours(start="22:00", end="07:00")
    late = datetime(2026, 1, 10, 23, tzinfo=UTC).timestamp()
    morning = datetime(2026, 1, 11, 7, tzinfo=UTC).timestamp()
    assert taken(one, late) == []
    assert one.wake_at(late) == morning
    assert not one.idle(late)
    assert taken(one, morning - 1) == []
    assert taken(one, morning) == [1, 2]


def test_a_lane_is_checked_when_its_next_attempt_is_allowed_and_not_before() -> None:
    lanes = Lanes()
    one = lanes.lane("whk_1")
    one.load([delivery(number) for number in range(CONCURRENCY + 2)], more=False)
    lanes.wake_next(one, 10.0)
    assert lanes.due(10.0) is one
    for _ in range(CONCURRENCY):
        assert lanes.take(one, 10.0, lambda _: None)
    lanes.wake_next(one, 10.0)
    assert lanes.next_at() == math.inf, "the end of an attempt wakes it"
    for number in range(CONCURRENCY):
        one.finish(("whk_1", number), latency_ms=5.0)
    for _ in range(FAILURES):
        one.breaker.failed(10.0)
    lanes.wake_next(one, 10.0)
    assert lanes.due(10.0) is None
    assert 10.0 < lanes.next_at() == one.allowed_at(10.0)


def test_deliveries_are_sent_by_their_due_time_in_whatever_order_they_are_queued() -> None:
    one = lane()
    for sequence, due_s in ((1, 5.0), (2, 3.0), (3, 5.0), (4, 1.0)):
        one.offer(delivery(sequence, due_s))
    found = [one.take(9.0) for _ in range(4)]
    assert [queued.sequence for queued in found if queued] == [4, 2, 1, 3]
