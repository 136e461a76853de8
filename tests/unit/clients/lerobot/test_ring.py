"""Ring between the control loop and the sender thread: no duplicates, exact counts, the newest items stay."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from saccade_robot.ring import Ring

STEPS = st.lists(st.one_of(st.just("offer"), st.integers(1, 6)), max_size=80)


@given(capacity=st.integers(1, 7), steps=STEPS)
def test_it_keeps_the_newest_in_order_and_counts_the_rest(capacity: int, steps: list[str | int]) -> None:
    ring: Ring[int] = Ring(capacity)
    kept: list[int] = []
    taken: list[int] = []
    offered = 0
    for step in steps:
        if isinstance(step, str):
            assert ring.offer(offered * 10) == offered
            kept = [*kept, offered][-capacity:]
            offered += 1
        else:
            expected, kept = kept[:step], kept[step:]
            got = ring.take(step)
            assert got == [(number, number * 10) for number in expected]
            taken += expected
            if taken:
                assert ring.dropped == taken[-1] + 1 - len(taken)
        assert (ring.offered, ring.waiting) == (offered, len(kept))
        assert len(taken) + ring.lost + ring.waiting == ring.offered
    while rest := ring.take(3):
        taken += [number for number, _ in rest]
    assert len(taken) + ring.dropped == (taken[-1] + 1 if taken else 0)


def test_two_threads_lose_only_what_is_counted() -> None:
    ring: Ring[int] = Ring(16)
    offers = 60_000
    taken: list[tuple[int, int]] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or ring.waiting:
            taken.extend(ring.take(5))

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(offers):
        ring.offer(number)
    done.set()
    taker.join(timeout=60)
    assert not taker.is_alive()
    numbers = [number for number, _ in taken]
    assert all(number == item for number, item in taken)
    assert numbers == sorted(set(numbers))
    # The newest always stays, so the last is there and all others are counted.
    assert numbers[-1] == offers - 1
    assert len(numbers) + ring.dropped == ring.offered == offers
