"""Lookups of names: those of one tenant that are never answered keep no other tenant waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kit.network.name_lookup import LOOKUPS_FOR, SystemLookup

pytestmark = pytest.mark.anyio

THREADS = 8


class SlowNames:
    """Answers names at once, but those of the zone ``silent`` only when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.endswith(".silent"):
            self.answers.wait(60)
        if host.startswith("broken"):
            raise OSError("no such name")
        return ["192.0.2.1"]


@pytest.fixture
def names() -> Iterator[SlowNames]:
    made = SlowNames()
    yield made
    made.answers.set()


async def asked(lookup: SystemLookup, tenant: str, host: str) -> list[str]:
    LOOKUPS_FOR.set(tenant)
    return await lookup(host)


def asking(lookup: SystemLookup, tenant: str, hosts: list[str]) -> list[asyncio.Task[list[str]]]:
    return [asyncio.create_task(asked(lookup, tenant, host)) for host in hosts]


async def test_a_tenant_whose_names_are_not_answered_holds_up_no_other(names: SlowNames) -> None:
    lookup = SystemLookup(names, threads=THREADS)
    silent = asking(lookup, "mallory", [f"{number}.silent" for number in range(50)])
    await asyncio.sleep(0.2)
    assert len(names.asked) == THREADS // 2
    async with asyncio.timeout(5):
        assert await asked(lookup, "acme", "hooks.example") == ["192.0.2.1"]
        for tenant in ("rival", "third"):  # each of them finds a thread beside two others who hold theirs
            asking(lookup, tenant, [f"{tenant}.{number}.silent" for number in range(50)])
            await asyncio.sleep(0.1)
            assert await asked(lookup, "acme", "hooks.example") == ["192.0.2.1"]
    assert not any(task.done() for task in silent)
    names.answers.set()
    async with asyncio.timeout(20):
        assert await asyncio.gather(*silent) == [["192.0.2.1"]] * 50


async def test_who_gets_no_thread_in_time_is_told(names: SlowNames) -> None:
    lookup = SystemLookup(names, threads=2, turn_s=0.1)
    first = asking(lookup, "mallory", ["a.silent"])
    await asyncio.sleep(0.05)
    with pytest.raises(OSError, match="too many names"):
        await asked(lookup, "mallory", "b.silent")
    names.answers.set()
    async with asyncio.timeout(5):
        assert await first[0] == ["192.0.2.1"]
        assert await asked(lookup, "mallory", "c.silent") == ["192.0.2.1"]
    assert names.asked == ["a.silent", "c.silent"], "a name that no request is waiting for is not looked up"


async def test_a_lookup_holds_its_thread_until_it_ends_and_gives_it_back_when_it_fails(names: SlowNames) -> None:
    lookup = SystemLookup(names, threads=2, turn_s=0.1)
    (given_up,) = asking(lookup, "acme", ["broken.silent"])
    await asyncio.sleep(0.05)
    given_up.cancel()
    with pytest.raises(OSError, match="too many names"):
        await asked(lookup, "acme", "hooks.example")
    names.answers.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await asked(lookup, "acme", "hooks.example") == ["192.0.2.1"]
                break
            except OSError:
                await asyncio.sleep(0.05)
        with pytest.raises(OSError, match="no such name"):
            await asked(lookup, "acme", "broken.example")
        assert await asked(lookup, "acme", "hooks.example") == ["192.0.2.1"]
