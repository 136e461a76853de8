"""The stop flag and the thread with an event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from modal_workers.runtime.context import Stopped
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.stop import StopCause, StopFlag


def test_the_first_cause_is_kept() -> None:
    stop = StopFlag()
    stop.check()
    stop.request(StopCause.CANCELLED)
    stop.request(StopCause.SIGNAL)
    assert stop.cause is StopCause.CANCELLED
    with pytest.raises(Stopped):
        stop.check()


def test_no_except_exception_swallows_a_stop() -> None:
    assert not issubclass(Stopped, Exception)


def test_a_stop_ends_a_wait_and_cancels_its_coroutine() -> None:
    stop = StopFlag()
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def request_stop() -> None:
        await asyncio.sleep(0.05)
        stop.request(StopCause.SIGNAL)

    with LoopThread() as thread:
        thread.start(request_stop())
        with pytest.raises(Stopped):
            thread.wait(work(), stop)
    assert ended == ["cancelled"]


def test_a_coroutines_result_or_error_is_passed_on() -> None:
    async def seven() -> int:
        await asyncio.sleep(0.12)  # longer than one check interval
        return 7

    async def time_out() -> None:
        raise TimeoutError("raised inside")

    async def stopped() -> None:
        raise Stopped("inside")

    with LoopThread() as thread:
        assert thread.wait(seven()) == 7
        with pytest.raises(TimeoutError, match="raised inside"):
            thread.wait(time_out())
        with pytest.raises(Stopped):
            thread.wait(stopped())


def test_the_loop_runs_while_another_thread_computes() -> None:
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.01)

    with LoopThread() as thread:
        thread.start(tick())
        end_s = time.monotonic() + 30.0
        while len(ticks) <= 3 and time.monotonic() < end_s:
            sum(range(1000))
    assert len(ticks) > 3
