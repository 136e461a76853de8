"""Fair queue: by example, by comparison with a naive implementation, and with very many jobs."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dispatcher.scheduling import fair_queue as fair
from services.dispatcher.scheduling.fair_queue import Candidate, FairQueue, Limits

WIDE = Limits(slots=1000, tenant=1000, workload=1000)


def candidate(number: int, tenant: str = "acme", workload: str = "echo", priority: int = 0) -> Candidate:
    return Candidate(f"job_{number:06d}", tenant, workload, priority, age=number)


def taken(queue: FairQueue, count: int = 1000) -> list[str]:
    jobs = []
    while len(jobs) < count and (job := queue.take()):
        jobs.append(job.job_id)
    return jobs


def test_the_oldest_goes_first_and_priority_before_age() -> None:
    queue = FairQueue(WIDE)
    for number, priority in [(3, 0), (1, 0), (2, 9), (4, -1)]:
        queue.wait(candidate(number, priority=priority))
    assert taken(queue) == ["job_000002", "job_000001", "job_000003", "job_000004"]
    assert (queue.waiting_of("acme"), queue.holding) == (0, 4)


def test_priority_does_not_reach_beyond_the_tenant() -> None:
    queue = FairQueue(WIDE)
    for number in range(4):
        queue.wait(candidate(number, "loud", priority=100))
    queue.wait(candidate(9, "quiet", priority=-100))
    assert "job_000009" in taken(queue, 2)


def test_tenants_take_turns() -> None:
    queue = FairQueue(Limits(slots=1, tenant=1, workload=1))
    for number in range(6):
        queue.wait(candidate(number, "a"))
    for number in range(6, 9):
        queue.wait(candidate(number, "b"))
    order = []
    while job := queue.take():
        order.append(job.tenant)
        queue.drop(job.job_id)
    assert order == ["a", "b", "a", "b", "a", "b", "a", "a", "a"]


def test_the_tenant_with_the_fewest_workers_is_first() -> None:
    queue = FairQueue(Limits(slots=4, tenant=4, workload=4))
    for number in range(3):
        queue.hold(candidate(number, "busy"))
    queue.hold(candidate(3, "idle"))
    queue.drop("job_000000")
    queue.wait(candidate(10, "busy"))
    queue.wait(candidate(11, "idle"))
    assert taken(queue, 1) == ["job_000011"], "one worker comes before two, although served last"


@pytest.mark.parametrize(
    ("limits", "count"),
    [(Limits(5, 9, 9), 5), (Limits(9, 2, 9), 4), (Limits(9, 9, 3), 6), (Limits(1, 1, 1), 1)],
    ids=["slots", "tenant", "workload", "one"],
)
def test_limits_hold(limits: Limits, count: int) -> None:
    queue = FairQueue(limits)
    for number in range(40):
        queue.wait(candidate(number, "ab"[number % 2], ("echo", "song")[number // 2 % 2]))
    assert len(taken(queue)) == count


def test_a_full_workload_does_not_hold_up_another() -> None:
    queue = FairQueue(Limits(slots=9, tenant=9, workload=1))
    for number in range(3):
        queue.wait(candidate(number, workload="echo", priority=5))
    queue.wait(candidate(7, workload="song"))
    assert taken(queue) == ["job_000000", "job_000007"]
    queue.drop("job_000000")
    assert taken(queue) == ["job_000001"]


def test_an_existing_worker_holds_its_slot_regardless_of_the_limits() -> None:
    """A dispatcher that takes over registers the workers that it finds."""
    queue = FairQueue(Limits(slots=1, tenant=1, workload=1))
    for number in range(3):
        queue.hold(candidate(number))
    queue.wait(candidate(5))
    assert queue.take() is None
    for number in range(2):
        queue.drop(f"job_{number:06d}")
        assert queue.take() is None
    queue.drop("job_000002")
    assert taken(queue) == ["job_000005"]


def test_repeated_calls_change_nothing() -> None:
    queue = FairQueue(WIDE)
    for _ in range(3):
        queue.wait(candidate(1))
    assert queue.waiting_of("acme") == 1
    assert taken(queue) == ["job_000001"]
    for _ in range(3):
        queue.hold(candidate(1))
    assert queue.holding == 1
    for _ in range(3):
        queue.drop("job_000001")
    assert (queue.waiting_of("acme"), queue.holding) == (0, 0)


class NaiveQueue:
    """The same rule without heaps: compares all jobs each time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.waiting: dict[str, Candidate] = {}
        self.holding: dict[str, Candidate] = {}
        self.served: dict[str, tuple[int, int]] = {}
        self.clock = 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def wait(self, job: Candidate) -> None:
        self.holding.pop(job.job_id, None)
        self.waiting[job.job_id] = job
        if job.tenant not in self.served:
            self.served[job.tenant] = (0, self.tick())

    def hold(self, job: Candidate) -> None:
        if job.job_id not in self.holding:
            self.waiting.pop(job.job_id, None)
            self.holding[job.job_id] = job
            self.served[job.tenant] = (1, self.tick())

    def drop(self, job_id: str) -> None:
        self.waiting.pop(job_id, None)
        self.holding.pop(job_id, None)

    def take(self) -> Candidate | None:
        tenants = Counter(job.tenant for job in self.holding.values())
        workloads = Counter(job.workload for job in self.holding.values())
        free = [
            ((tenants[job.tenant], self.served[job.tenant]), (-job.priority, job.age, job.job_id), job)
            for job in self.waiting.values()
            if tenants[job.tenant] < self.limits.tenant and workloads[job.workload] < self.limits.workload
        ]
        if not free or len(self.holding) >= self.limits.slots:
            return None
        best = min(free, key=lambda entry: entry[:2])[2]
        self.hold(best)
        return best


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "wait", "wait", "take", "take", "drop", "hold"]),
        st.integers(0, 11),
        st.sampled_from("abc"),
        st.sampled_from(["echo", "song"]),
        st.integers(-1, 1),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(st.builds(Limits, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)), _STEPS)
def test_it_returns_what_the_naive_queue_returns(limits: Limits, steps: list[tuple[str, int, str, str, int]]) -> None:
    queue, naive = FairQueue(limits), NaiveQueue(limits)
    of_job: dict[int, tuple[str, str]] = {}
    for act, number, tenant, workload, priority in steps:
        # A job keeps its tenant and workload; its priority may change between calls.
        job = candidate(number, *of_job.setdefault(number, (tenant, workload)), priority)
        if act == "take":
            assert queue.take() == naive.take()
        elif act == "drop":
            queue.drop(job.job_id)
            naive.drop(job.job_id)
        else:
            getattr(queue, act)(job)
            getattr(naive, act)(job)
        waiting = Counter(job.tenant for job in naive.waiting.values())
        assert {name: queue.waiting_of(name) for name in "abc"} == {name: waiting[name] for name in "abc"}
        assert queue.holding == len(naive.holding)
    while (one_more := naive.take()) is not None:
        assert queue.take() == one_more
    assert queue.take() is None


def test_the_cost_of_take_does_not_depend_on_the_number_of_waiting_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = 0

    class Counting:
        @staticmethod
        def heappush(heap: list[object], item: object) -> None:
            nonlocal touched
            touched += 1
            heapq.heappush(heap, item)

        @staticmethod
        def heappop(heap: list[object]) -> object:
            nonlocal touched
            touched += 1
            return heapq.heappop(heap)

    monkeypatch.setattr(fair, "heapq", Counting)
    costs = []
    for waiting in (100, 10_000):
        queue = FairQueue(Limits(slots=2, tenant=2, workload=2))
        for number in range(waiting):
            queue.wait(candidate(number, "flood"))
        queue.wait(candidate(99_999, "quiet"))
        touched = 0
        for _ in range(50):
            job = queue.take()
            assert job
            queue.drop(job.job_id)
        costs.append(touched)
    assert costs[0] == costs[1], "heap operations of fifty calls of take"


def test_removed_jobs_leave_no_memory_in_use() -> None:
    chance = random.Random(1)
    queue = FairQueue(Limits(slots=3, tenant=2, workload=3))
    for number in range(20_000):
        queue.wait(candidate(number, f"tenant{number % 300}", priority=chance.randrange(5)))
        if number % 2:
            queue.drop(f"job_{number:06d}")
        if job := queue.take():
            queue.drop(job.job_id)
    for number in range(20_000):
        queue.drop(f"job_{number:06d}")
    assert (sum(queue.waiting_of(f"tenant{number}") for number in range(300)), queue.holding) == (0, 0)
    left = sum(len(line) for line in queue._lines.values()) + sum(len(turns) for turns in queue._turns.values())
    assert left < 2_000


def test_tenants_without_jobs_are_removed_beyond_a_limit() -> None:
    queue = FairQueue(WIDE)
    for number in range(25_000):
        queue.wait(candidate(number, f"tenant{number}"))
        queue.drop(f"job_{number:06d}")
    assert len(queue._served) <= 10_001
