"""An upload that waits is stopped: for its turn, for another one of the same content, for its next try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.clients.console_start import DroppedFile, drop
from tests.harness.clients.held_requests import Requests, requests_of
from tests.harness.servers.gateway import picture

pytestmark = pytest.mark.anyio

_PUTS = "PUT *X-Amz-*"
_STATES = "[...document.querySelectorAll('.tile')].map(tile => tile.querySelector('.state')?.innerText ?? '').join()"
_STOPS = "[...document.querySelectorAll('.tile')].map(tile => tile.querySelector('progress ~ .row button'))"


def photo(name: str, width_px: int) -> DroppedFile:
    return DroppedFile(name, picture(width_px, 48), "image/png")


@asynccontextmanager
async def start(origin: str, folder: Path) -> AsyncIterator[tuple[ConsoleTab, Requests]]:
    """Open the Start page with a workload that takes many photos."""
    async with console_tab(origin, "/console?workload=nerf", folder) as tab:
        await tab.until("document.querySelector('.drop') !== null")
        async with requests_of(tab, "*/v1/uploads*", "*X-Amz-*") as requests:
            yield tab, requests


async def until_held(requests: Requests, count: int) -> None:
    async with asyncio.timeout(30):
        while len([name for name, _ in requests.held if name.startswith("PUT ")]) < count:
            await asyncio.sleep(0.02)


def created(requests: Requests) -> int:
    """Return how many uploads the page has created."""
    return sum(name.startswith("POST ") and name.endswith("/v1/uploads") for name, _ in requests.seen)


async def test_one_that_waits_for_its_turn_is_not_sent_until_it_is_resumed(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path) as (tab, requests):
        requests.hold(_PUTS)
        await drop(tab, *(photo(f"{name}.png", 80 + name) for name in range(3)))
        await until_held(requests, 2)
        await tab.until(f"{_STOPS}.filter(Boolean).length", 3)
        await tab.evaluate(f"{_STOPS}[2].click()")
        await tab.until(_STATES, ",,Stopped")
        await requests.let_go(_PUTS)
        await tab.until(_STATES, "Uploaded,Uploaded,Stopped")
        assert created(requests) == 2
        await tab.evaluate("document.querySelectorAll('.tile')[2].querySelector('.state ~ button').click()")
        await tab.until(_STATES, "Uploaded,Uploaded,Uploaded")
        assert created(requests) == 3
        assert tab.page.complaints() == []


async def test_one_that_is_removed_while_it_waits_leaves_its_turn_to_the_next(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path) as (tab, requests):
        requests.hold(_PUTS)
        await drop(tab, *(photo(f"{name}.png", 90 + name) for name in range(4)))
        await until_held(requests, 2)
        await tab.until(f"{_STOPS}.filter(Boolean).length", 4)
        await tab.evaluate("document.querySelectorAll('.tile')[2].querySelector('[aria-label^=Remove]').click()")
        await tab.until("document.querySelectorAll('.tile').length", 3)
        await requests.let_go(_PUTS)
        await tab.until(_STATES, "Uploaded,Uploaded,Uploaded")
        assert created(requests) == 3
        assert tab.page.complaints() == []


async def test_one_that_waits_for_the_same_content_stops_at_once(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path) as (tab, requests):
        requests.hold(_PUTS)
        await drop(tab, photo("one.png", 100), photo("one.png", 100))
        await until_held(requests, 1)
        await tab.until(f"{_STOPS}.filter(Boolean).length", 2)
        await tab.evaluate(f"{_STOPS}[1].click()")
        await tab.until(_STATES, ",Stopped")
        await requests.let_go(_PUTS)
        await tab.until(_STATES, "Uploaded,Stopped")
        await tab.evaluate("document.querySelectorAll('.tile')[1].querySelector('.state ~ button').click()")
        await tab.until(_STATES, "Uploaded,Uploaded")
        assert created(requests) == 1


async def test_the_one_that_others_wait_for_can_be_stopped(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path) as (tab, requests):
        requests.hold(_PUTS)
        await drop(tab, photo("one.png", 110), photo("one.png", 110), photo("two.png", 111), photo("one.png", 110))
        await until_held(requests, 1)
        await tab.until(f"{_STOPS}.filter(Boolean).length", 4)
        await tab.evaluate(f"{_STOPS}[0].click()")
        await tab.until(f"{_STATES}.startsWith('Stopped')")
        await requests.let_go(_PUTS)
        await tab.until(_STATES, "Stopped,Uploaded,Uploaded,Uploaded")


async def test_one_that_waits_for_its_next_try_stops_at_once(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path) as (tab, requests):
        requests.refuse(_PUTS, 503)
        await drop(tab, photo("one.png", 120))
        async with asyncio.timeout(30):
            while not any(name.startswith("PUT ") for name, _ in requests.seen):
                await asyncio.sleep(0.02)
        await tab.evaluate(f"{_STOPS}[0].click()")
        await tab.until(_STATES, "Stopped")
        tries = [name for name, _ in requests.seen if name.startswith("PUT ")]
        await asyncio.sleep(1)  # the third try would come 0.3 s after the second
        assert [name for name, _ in requests.seen if name.startswith("PUT ")] == tries
        assert await tab.evaluate(_STATES) == "Stopped"
