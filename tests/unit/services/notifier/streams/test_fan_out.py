"""Fan-out: order for each tenant, turns between tenants, others between the pieces, shares, and a bounded queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import pytest

from kit.auth.loop_time_shares import LoopTimeShares
from services.notifier.streams.fan_out import FanOut

pytestmark = pytest.mark.anyio

#: An event: its name, and the pieces that it is sent in; none for one that cannot be sent.
Event = tuple[str, int]


class Sent:
    """A fan-out on a clock of its own, and the pieces that were sent, in order."""

    def __init__(self, at_once: int = 1, piece_s: float = 0.0) -> None:
        self.pieces: list[str] = []
        self.now_s = 0.0
        self._at_once, self._piece_s = at_once, piece_s
        self.fan_out = FanOut[Event](self._begin, LoopTimeShares(), lambda: self.now_s)

    def put(self, tenant: str, name: str, pieces: int) -> None:
        self.fan_out.put(tenant, (name, pieces))

    def _begin(self, waiting: deque[Event]) -> Iterator[None]:
        batch = [waiting.popleft() for _ in range(min(self._at_once, len(waiting)))]
        return self._send("+".join(name for name, _ in batch), max(pieces for _, pieces in batch))

    def _send(self, name: str, pieces: int) -> Iterator[None]:
        if not pieces:
            yield
            raise RuntimeError(name)
        for number in range(pieces):
            self.pieces.append(f"{name}{number}")
            self.now_s += self._piece_s
            if number < pieces - 1:
                yield

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.pieces) < count:
                await asyncio.sleep(0)


async def test_an_event_for_few_streams_is_sent_at_once() -> None:
    sent = Sent()
    sent.put("acme", "a", 1)
    assert sent.pieces == ["a0"]
    assert len(sent.fan_out) == 0


async def test_events_of_a_tenant_keep_their_order_also_short_ones_behind_a_long_one() -> None:
    sent = Sent()
    sent.put("acme", "a", 3)
    sent.put("acme", "b", 1)
    sent.put("acme", "c", 2)
    assert sent.pieces == ["a0"]
    await sent.until(6)
    assert sent.pieces == ["a0", "a1", "a2", "b0", "c0", "c1"]
    sent.put("acme", "d", 1)
    assert sent.pieces[-1] == "d0", "nothing waits any more"


async def test_events_that_wait_go_together() -> None:
    sent = Sent(at_once=3)
    for name in "abcde":
        sent.put("acme", name, 2)
    await sent.until(6)
    assert sent.pieces == ["a0", "a1", "b+c+d0", "b+c+d1", "e0", "e1"]


async def test_tenants_take_turns_and_whoever_has_few_streams_does_not_wait() -> None:
    sent = Sent()
    sent.put("greedy", "a", 4)
    sent.put("large", "b", 3)
    sent.put("small", "c", 1)
    assert sent.pieces == ["a0", "b0", "c0"]
    await sent.until(8)
    assert sent.pieces[3:] == ["a1", "b1", "a2", "b2", "a3"]


async def test_a_tenant_beyond_its_share_waits_while_others_are_there() -> None:
    sent = Sent(at_once=10, piece_s=0.12)
    sent.put("small", "s", 1)
    for name in "abc":
        sent.put("greedy", name, 4)
    await sent.until(4)
    for _ in range(5):
        await asyncio.sleep(0.03)  # longer than it waits at least
    assert sent.pieces == ["s0", "a0", "a1", "a2"], "it has used a third of a second at once"
    sent.put("small", "t", 1)
    assert sent.pieces[4:] == ["t0"]
    sent.put("greedy", "d", 1)
    sent.now_s += 0.8
    await sent.until(7)
    assert sent.pieces[5:7] == ["a3", "b+c+d0"], "what has waited goes together"


async def test_a_tenant_of_many_streams_rests_after_its_events_while_others_are_there() -> None:
    sent = Sent(at_once=10, piece_s=0.01)
    sent.put("small", "s", 1)
    sent.put("large", "a", 2)
    await sent.until(3)
    for name in "bcd":
        sent.put("large", name, 2)
    for _ in range(5):
        await asyncio.sleep(0.03)
    assert sent.pieces == ["s0", "a0", "a1"], "it has used far less than its share"
    sent.now_s += 0.1  # five times as long as that took
    await sent.until(5)
    assert sent.pieces[3:] == ["b+c+d0", "b+c+d1"]
    sent.put("small", "t", 1)
    sent.put("small", "u", 1)
    assert sent.pieces[5:] == ["t0", "u0"], "who has few streams does not rest"


async def test_a_tenant_alone_waits_for_nothing() -> None:
    sent = Sent(piece_s=10.0)
    sent.put("acme", "a", 30)
    await sent.until(30)
    assert len(sent.fan_out) == 0


async def test_other_callbacks_run_between_the_pieces() -> None:
    sent = Sent()
    loop = asyncio.get_running_loop()

    def again(left: int) -> None:
        sent.pieces.append("other")
        if left:
            loop.call_soon(again, left - 1)

    sent.put("acme", "a", 4)
    loop.call_soon(again, 2)
    await sent.until(7)
    assert sent.pieces == ["a0", "a1", "other", "a2", "other", "a3", "other"]


async def test_the_loop_is_idle_between_the_pieces_while_other_tenants_are_there() -> None:
    sent, turns = Sent(), 0
    sent.put("small", "s", 1)
    sent.put("acme", "a", 4)
    async with asyncio.timeout(10):
        while len(sent.pieces) < 5:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 6, "one for each piece, if the pieces followed each other"


async def test_the_queue_of_a_tenant_is_bounded_and_nothing_is_dropped() -> None:
    sent = Sent()
    for number in range(1000):
        sent.put("greedy", f"{number}.", 3)
    assert len(sent.fan_out) <= 257
    await sent.until(3000)
    assert sent.pieces == [f"{number}.{piece}" for number in range(1000) for piece in range(3)]
    assert len(sent.fan_out) == 0


async def test_a_flush_sends_all_that_waits() -> None:
    sent = Sent()
    sent.put("acme", "a", 3)
    sent.put("acme", "b", 2)
    sent.fan_out.flush()
    assert sent.pieces == ["a0", "a1", "a2", "b0", "b1"]
    await asyncio.sleep(0)
    sent.put("acme", "c", 2)
    await sent.until(7)
    assert sent.pieces[5:] == ["c0", "c1"], "it goes on afterwards"


async def test_an_event_that_cannot_be_sent_does_not_stop_the_next_ones() -> None:
    sent = Sent()
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(str(context.get("exception"))))
    sent.put("acme", "broken", 0)
    sent.put("acme", "b", 2)
    await sent.until(2)
    assert errors == ["broken"]
    assert sent.pieces == ["b0", "b1"]
