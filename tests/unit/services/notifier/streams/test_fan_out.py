"""Fan-out: order for each tenant, turns between tenants, others between the pieces, and a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from services.notifier.streams.fan_out import FanOut

pytestmark = pytest.mark.anyio


class Sent:
    """The pieces that were sent, in order."""

    def __init__(self) -> None:
        self.pieces: list[str] = []

    def event(self, name: str, pieces: int) -> Iterator[None]:
        for number in range(pieces):
            self.pieces.append(f"{name}{number}")
            if number < pieces - 1:
                yield

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.pieces) < count:
                await asyncio.sleep(0)


async def test_an_event_for_few_streams_is_sent_at_once() -> None:
    fan_out, sent = FanOut(), Sent()
    fan_out.put("acme", sent.event("a", 1))
    assert sent.pieces == ["a0"]
    assert len(fan_out) == 0


async def test_events_of_a_tenant_keep_their_order_also_short_ones_behind_a_long_one() -> None:
    fan_out, sent = FanOut(), Sent()
    fan_out.put("acme", sent.event("a", 3))
    fan_out.put("acme", sent.event("b", 1))
    fan_out.put("acme", sent.event("c", 2))
    assert sent.pieces == ["a0"]
    await sent.until(6)
    assert sent.pieces == ["a0", "a1", "a2", "b0", "c0", "c1"]
    fan_out.put("acme", sent.event("d", 1))
    assert sent.pieces[-1] == "d0", "nothing waits any more"


async def test_tenants_take_turns_and_whoever_has_few_streams_does_not_wait() -> None:
    fan_out, sent = FanOut(), Sent()
    fan_out.put("greedy", sent.event("a", 4))
    fan_out.put("large", sent.event("b", 3))
    fan_out.put("small", sent.event("c", 1))
    assert sent.pieces == ["a0", "b0", "c0"]
    await sent.until(8)
    assert sent.pieces[3:] == ["a1", "b1", "a2", "b2", "a3"]


async def test_other_callbacks_run_between_the_pieces() -> None:
    fan_out, sent = FanOut(), Sent()
    loop = asyncio.get_running_loop()

    def again(left: int) -> None:
        sent.pieces.append("other")
        if left:
            loop.call_soon(again, left - 1)

    fan_out.put("acme", sent.event("a", 4))
    loop.call_soon(again, 2)
    await sent.until(7)
    assert sent.pieces == ["a0", "a1", "other", "a2", "other", "a3", "other"]


async def test_the_queue_of_a_tenant_is_bounded_and_nothing_is_dropped() -> None:
    fan_out, sent = FanOut(), Sent()
    for number in range(1000):
        fan_out.put("greedy", sent.event(f"{number}.", 3))
    assert len(fan_out) <= 256
    await sent.until(3000)
    assert sent.pieces == [f"{number}.{piece}" for number in range(1000) for piece in range(3)]
    assert len(fan_out) == 0


async def test_a_flush_sends_all_that_waits() -> None:
    fan_out, sent = FanOut(), Sent()
    fan_out.put("acme", sent.event("a", 3))
    fan_out.put("acme", sent.event("b", 2))
    fan_out.flush()
    assert sent.pieces == ["a0", "a1", "a2", "b0", "b1"]
    await asyncio.sleep(0)
    fan_out.put("acme", sent.event("c", 2))
    await sent.until(7)
    assert sent.pieces[5:] == ["c0", "c1"], "it goes on afterwards"


async def test_an_event_that_cannot_be_sent_does_not_stop_the_next_ones() -> None:
    fan_out, sent = FanOut(), Sent()
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(str(context.get("exception"))))

    def broken() -> Iterator[None]:
        yield
        raise RuntimeError("broken")

    fan_out.put("acme", broken())
    fan_out.put("acme", sent.event("b", 2))
    await sent.until(2)
    assert errors == ["broken"]
    assert sent.pieces == ["b0", "b1"]
