"""Whom to attend to next."""

from __future__ import annotations

import asyncio

import pytest

from services.dispatcher.scheduling.work_queue import Rounds

pytestmark = pytest.mark.anyio


async def drain(rounds: Rounds, count: int) -> list[str]:
    jobs = []
    for _ in range(count):
        jobs.append(await asyncio.wait_for(rounds.take(), 1))
        rounds.done(jobs[-1])
    return jobs


async def test_what_is_under_way_goes_first_then_tenants_take_turns() -> None:
    rounds = Rounds()
    for number in range(4):
        rounds.add(f"flood{number}", "flood", urgent=False)
    rounds.add("quiet", "quiet", urgent=False)
    rounds.add("running", "flood", urgent=True)
    assert await drain(rounds, 6) == ["running", "flood0", "quiet", "flood1", "flood2", "flood3"]


async def test_no_job_is_attended_to_twice_at_once_and_no_call_is_forgotten() -> None:
    rounds = Rounds()
    rounds.add("one", "acme", urgent=True)
    rounds.add("one", "acme", urgent=True)
    assert await rounds.take() == "one"
    rounds.add("one", "acme", urgent=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rounds.take(), 0.05)
    rounds.done("one")
    assert await drain(rounds, 1) == ["one"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rounds.take(), 0.05)


async def test_later_comes_later_and_now_comes_before() -> None:
    rounds = Rounds()
    rounds.later("one", "acme", 0.05, urgent=True)
    assert "one" in rounds
    assert await drain(rounds, 1) == ["one"]
    rounds.later("one", "acme", 3600, urgent=True)
    rounds.add("one", "acme", urgent=True)
    assert await drain(rounds, 1) == ["one"]
    assert "one" not in rounds, "the alarm is off"


async def test_the_last_alarm_counts() -> None:
    rounds = Rounds()
    rounds.later("one", "acme", 0.02, urgent=True)
    rounds.later("one", "acme", 3600, urgent=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rounds.take(), 0.1)
    rounds.clear()
    assert "one" not in rounds


async def test_every_waiting_attendant_gets_its_job() -> None:
    rounds = Rounds()
    takers = [asyncio.create_task(rounds.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for name in "abc":
        rounds.add(name, "acme", urgent=False)
    assert sorted(await asyncio.wait_for(asyncio.gather(*takers), 1)) == ["a", "b", "c"]


async def test_one_job_calls_one_of_hundreds_who_wait() -> None:
    rounds = Rounds()
    takers = [asyncio.create_task(rounds.take()) for _ in range(300)]
    await asyncio.sleep(0)
    rounds.add("one", "acme", urgent=True)
    await asyncio.sleep(0)
    assert len(rounds._takers) == 299, "the others sleep on"
    for taker in takers:
        taker.cancel()
    done = await asyncio.gather(*takers, return_exceptions=True)
    assert [one for one in done if isinstance(one, str)] == ["one"]


async def test_who_was_called_and_cannot_come_calls_the_next() -> None:
    rounds = Rounds()
    first, second = (asyncio.create_task(rounds.take()) for _ in range(2))
    await asyncio.sleep(0)
    rounds.add("one", "acme", urgent=True)
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "one"
    assert first.cancelled()
