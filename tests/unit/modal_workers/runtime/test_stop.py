"""The flag that a signal handler sets, and the thread that waits for a loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from modal_workers.runtime.context import Stopped
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.stop import Stop, StopReason


def test_the_first_reason_stays() -> None:
    stop = Stop()
    stop.check()
    stop.ask(StopReason.CANCELLED)
    stop.ask(StopReason.SIGNAL)
    assert stop.reason is StopReason.CANCELLED
    with pytest.raises(Stopped):
        stop.check()


def test_no_except_exception_swallows_a_stop() -> None:
    assert not issubclass(Stopped, Exception)


def test_waiting_ends_when_the_run_is_stopped_and_the_coroutine_is_cancelled() -> None:
    stop = Stop()
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def ask() -> None:
        await asyncio.sleep(0.05)
        stop.ask(StopReason.SIGNAL)

    with LoopThread() as thread:
        thread.start(ask())
        with pytest.raises(Stopped):
            thread.wait(work(), stop)
    assert ended == ["cancelled"]


def test_what_a_coroutine_gives_or_raises_comes_through() -> None:
    async def give() -> int:
        await asyncio.sleep(0.12)  # longer than one look
        return 7

    async def time_out() -> None:
        raise TimeoutError("its own")

    async def stopped() -> None:
        raise Stopped("inside")

    with LoopThread() as thread:
        assert thread.wait(give()) == 7
        with pytest.raises(TimeoutError, match="its own"):
            thread.wait(time_out())
        with pytest.raises(Stopped):
            thread.wait(stopped())


def test_the_loop_goes_on_while_the_thread_computes() -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    with LoopThread() as thread:
        thread.start(tick())
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            sum(range(1000))
    assert len(ticks) > 3
