"""Page of the events: live, of the past, filtered, each with an address; and the stream that all tabs share."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
import psutil
import pytest

from tests.harness.clients.console_browser import ConsoleTab, console_tab

pytestmark = pytest.mark.anyio

_HOSTILE: Final = "<img src=x onerror=document.title='bad'>"
_SHOWN: Final = "[...document.querySelectorAll('.event-row')].map(row => row.querySelector('.kind').innerText.trim())"
_FEED: Final = "import(document.querySelector('script[type=module]').src.replace(/main\\.js$/, 'feed.js'))"
_CHOSEN: Final = "(document.querySelector('[aria-selected=true]')?.innerText ?? '')"


def _submit(origin: str, *script: str, **fields: Any) -> str:
    body = {"workload": "scripted", "params": {"script": list(script)}, **fields}
    answer = httpx.post(f"{origin}/v1/jobs", json=body, trust_env=False, timeout=60)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def _events_of(origin: str, job_id: str) -> list[dict[str, Any]]:
    """Return the cursors and types of all events of a job, once it has ended, as the API tells them."""
    found: list[dict[str, Any]] = []
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
        http.stream("GET", f"{origin}/v1/jobs/{job_id}/events") as answer,
    ):
        entry: dict[str, Any] = {}
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            entry |= {name: value}
            if not line and "data" in entry:
                found.append({"type": entry["event"], "cursor": entry.get("id"), **json.loads(entry["data"])})
                entry = {}
    return [event for event in found if event["cursor"]]


async def test_events_come_live_and_each_one_has_an_address(origin: str) -> None:
    async with console_tab(origin, "/console/events?type=job.*") as tab:
        await tab.until_heading("Events")
        await tab.until("document.querySelector('.menu .link').innerText", "Events arrive live")
        job_id = _submit(origin, metadata={"note": _HOSTILE})
        await tab.evaluate(f"document.querySelector('input[name=subject]').value = {json.dumps(job_id)}")
        await tab.evaluate("document.querySelector('input[name=subject]').form.requestSubmit()")
        await tab.until(f"{_SHOWN}.at(-1)", "job.succeeded")
        events = await _events_of(origin, job_id)
        shown = await tab.evaluate(_SHOWN)
        # Progress is shown too, but is not part of a job's history.
        assert [kind for kind in shown if kind != "job.progressed"] == [one["type"] for one in events]

        # A chosen event is in the address, and a reload, or another browser, opens the page at it.
        await tab.click("[role=listbox]")
        await tab.evaluate("document.querySelector('[role=listbox]').focus()")
        await tab.press("Home")
        first = events[0]["cursor"]
        await tab.until("new URLSearchParams(location.search).get('cursor')", first)
        assert _HOSTILE in await tab.evaluate("document.querySelector('.event-details pre').innerText")
        assert await tab.evaluate("document.querySelectorAll('main img').length") == 0
        await tab.until("document.querySelector('.event-details').innerText.includes('gateway, dispatcher, notifier')")
        await tab.page.tab.send("Page.navigate", url=f"{origin}/console/events?cursor={first}")
        await tab.until(f"{_CHOSEN}.includes('job.submitted')")
        # The list has what follows the event once it is read.
        await tab.until(f"{_SHOWN}.length > 1")
        await tab.evaluate("document.querySelector('[role=listbox]').focus()")
        await tab.press("ArrowDown")
        await tab.until("new URLSearchParams(location.search).get('cursor')", events[1]["cursor"])
        await tab.page.tab.send("Page.navigate", url=f"{origin}/console/events?id={events[-1]['id']}")
        await tab.until("new URLSearchParams(location.search).get('cursor')", events[-1]["cursor"])
        link = "document.querySelector('.event-details a.button').getAttribute('href')"
        assert await tab.evaluate(link) == f"/console/jobs/{job_id}?at={events[-1]['cursor']}"

        # A range leads to a replay and names the same as commands.
        await tab.go(f"console/events?subject={job_id}&from={events[0]['cursor']}&to={events[-1]['cursor']}")
        await tab.until(
            "document.querySelector('main section h2')?.innerText", f"Range with {len(events)} shown events"
        )
        shown = await tab.evaluate("document.querySelector('main section .commands pre').textContent")
        epoch, _, sequence = first.partition(".")
        since = f"{epoch}.{int(sequence) - 1}"
        of_range = f"--since {since} --until {events[-1]['cursor']}"
        # Without its reason the command is refused.
        assert f"saccade replay {of_range} --subject {job_id} --into sse --why REASON" in shown.splitlines()
        await tab.click("main section .row a.button")
        await tab.until("document.querySelector('main form input[name=since]')?.value", since)
        assert await tab.evaluate("document.querySelector('main form input[name=until]').value") == events[-1]["cursor"]
        assert await tab.evaluate("document.querySelector('main form input[name=subjects]').value") == job_id
        await tab.page.tab.send("Page.navigate", url=f"{origin}/console/events?cursor={'0' * 16}.7")
        await tab.until("document.querySelector('main [role=alert]')?.innerText.includes('not stored here')")
        assert tab.page.complaints() == []


async def test_a_filter_that_is_removed_shows_what_it_left_out(origin: str) -> None:
    job_id, other = _submit(origin), _submit(origin)
    await _events_of(origin, job_id)
    await _events_of(origin, other)
    subjects = "[...document.querySelectorAll('.subject')].map(row => row.innerText.trim().slice(-8))"
    async with console_tab(origin, f"/console/events?subject={job_id}") as tab:
        await tab.until(f"{_SHOWN}.at(-1)", "job.succeeded")
        assert set(await tab.evaluate(subjects)) == {job_id[-8:]}
        # What was typed stays in the field while the list is painted.
        await tab.click("input[type=search][placeholder='Text in an event']")
        await tab.press("j")
        await tab.evaluate(
            "import(document.querySelector('script[type=module]').src.replace(/main\\.js$/, 'router.js'))"
            ".then(router => router.setQuery({ from: null }))"
        )
        await tab.press("o")
        await tab.until("new URLSearchParams(location.search).get('text')", "jo")
        await tab.click("button.remove")
        await tab.until(f"{subjects}.includes({json.dumps(other[-8:])})")


async def test_a_pause_holds_back_what_comes(origin: str) -> None:
    async with console_tab(origin, "/console/events") as tab:
        await tab.until("document.querySelector('.menu .link').innerText", "Events arrive live")
        await tab.press("p")
        await tab.until("document.querySelector('.page-head button').ariaPressed", "true")
        job_id = _submit(origin)
        held = len(await _events_of(origin, job_id))
        await tab.until(f"parseInt(document.querySelector('.page-head button').innerText.match(/\\d+/)[0]) >= {held}")
        rows = "[...document.querySelectorAll('.subject')]"
        mine = f"{rows}.filter(row => {json.dumps(job_id)}.endsWith(row.innerText.slice(-8)))"
        assert await tab.evaluate(f"{mine}.length") == 0
        await tab.press("p")
        await tab.until(f"{mine}.length >= {held}")
        await tab.fill("input[type=search][placeholder='Text in an event']", job_id)
        await tab.until("new URLSearchParams(location.search).get('text')", job_id)
        await tab.until(f"{_SHOWN}.length >= {held} && {mine}.length === {_SHOWN}.length")
        tab.check_clean()


def _notifier(origin: str) -> psutil.Process:
    """Return the process that serves the event streams of a system."""
    port = urlsplit(origin).port
    server = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid
    )
    while True:
        for child in psutil.Process(server).children(recursive=True):
            # One that was killed is there until its parent has noticed.
            with contextlib.suppress(psutil.NoSuchProcess):
                if "services.notifier" in child.cmdline():
                    return child


async def _open_streams(origin: str) -> int:
    """Return how many event streams the server counts."""
    listening: list[Any] = []
    while not listening:  # it may have been started, or killed, just now
        with contextlib.suppress(psutil.NoSuchProcess):
            found = _notifier(origin).net_connections("tcp")
            listening = [connection for connection in found if connection.status == psutil.CONN_LISTEN]
        await anyio.sleep(0.05)
    text = httpx.get(f"http://127.0.0.1:{listening[0].laddr.port}/metrics", trust_env=False, timeout=60).text
    return int(float(next(line for line in text.splitlines() if line.startswith("saccade_sse_streams ")).split()[1]))


async def _until_streams(origin: str, count: int) -> None:
    with anyio.fail_after(30):
        while await _open_streams(origin) != count:
            await anyio.sleep(0.1)


async def _received(tab: ConsoleTab, job_id: str) -> list[str]:
    of_job = f"event.subject === {json.dumps(job_id)} && event.cursor"
    found: list[str] = await tab.evaluate(
        f"{_FEED}.then(feed => feed.received().filter(event => {of_job}).map(event => event.cursor))"
    )
    return found


async def test_all_tabs_share_one_stream_which_outlives_its_tab_and_its_server(origin: str) -> None:
    async with console_tab(origin, "/console/keys") as reader:
        tabs = [await reader.open_tab("/console/events") for _ in range(3)]
        for tab in tabs:
            await tab.until("document.querySelector('.menu .link').innerText", "Events arrive live")
            # The past is read by a stream of its own, which ends.
            await tab.until("document.querySelector('.event-bar .hint').innerText.includes('event')")
        await _until_streams(origin, 1)

        async def check(*open_tabs: ConsoleTab, job_id: str) -> None:
            await _check_received(origin, *open_tabs, job_id=job_id)

        await check(*tabs, job_id=_submit(origin))
        # The job's events go on while the tab that reads the stream is closed.
        asked = [await tab.evaluate("navigator.locks.query().then(all => all.held.length)") for tab in tabs]
        assert asked == [1, 1, 1]
        leader = await _leader(tabs)
        job_id = _submit(origin, "work 1")
        await leader.page.tab.send("Page.close")
        others = [tab for tab in tabs if tab is not leader]
        await check(*others, job_id=job_id)
        await _until_streams(origin, 1)

        # So it is when the server is killed: the stream goes on after the last event.
        os.kill(_notifier(origin).pid, signal.SIGKILL)
        await check(*others, job_id=_submit(origin))
        await _until_streams(origin, 1)
        for tab in others:
            await tab.until("document.querySelector('.menu .link').innerText", "Events arrive live")

        # Nobody is logged in any more: nothing is read.
        state = "import(document.querySelector('script[type=module]').src.replace(/main\\.js$/, 'api.js'))"
        for tab in others:
            await tab.evaluate(f"{state}.then(api => {{ api.session.value = 'none'; }})")
        await _until_streams(origin, 0)
        assert await others[0].evaluate(f"{_FEED}.then(feed => [feed.received().length, feed.state.value])") == [
            0,
            "idle",
        ]


async def test_a_tab_that_is_frozen_or_hangs_hands_the_stream_on(origin: str, tmp_path: Path) -> None:
    async with console_tab(origin, "/console/keys", tmp_path) as reader:
        tabs = [await reader.open_tab("/console/events") for _ in range(3)]
        for tab in tabs:
            await tab.until("document.querySelector('.menu .link').innerText", "Events arrive live")
        frozen = await _leader(tabs)
        await frozen.page.tab.send("Page.setWebLifecycleState", state="frozen")
        others = [tab for tab in tabs if tab is not frozen]
        job_id = _submit(origin)
        await _check_received(origin, *others, job_id=job_id)
        await frozen.page.tab.send("Page.setWebLifecycleState", state="active")
        await _check_received(origin, frozen, job_id=job_id)
        await _until_streams(origin, 1)

        # A browser tells no tab that it hangs: the one that is looked at finds out, and takes the stream over.
        hanging = await _leader(others)
        looked_at = next(tab for tab in others if tab is not hanging)
        await looked_at.page.tab.send("Page.bringToFront")
        short = "{ silent_ms: 200, answer_ms: 1000, look_ms: 100 }"
        await looked_at.evaluate(f"{_FEED}.then(feed => {{ Object.assign(feed.patience, {short}); }})")
        await hanging.page.tab.send("Debugger.enable")
        await hanging.page.tab.send("Debugger.pause")
        job_id = _submit(origin)
        await _check_received(origin, looked_at, frozen, job_id=job_id)
        await hanging.page.tab.send("Debugger.resume")
        await hanging.page.tab.send("Debugger.disable")
        await _check_received(origin, hanging, job_id=job_id)
        await _until_streams(origin, 1)
        assert reader.page.complaints() == []


async def _check_received(origin: str, *tabs: ConsoleTab, job_id: str) -> None:
    """Check that the tabs get each event of a job once and in order."""
    wanted = [one["cursor"] for one in await _events_of(origin, job_id)]
    for tab in tabs:
        with anyio.fail_after(30):
            while len(await _received(tab, job_id)) < len(wanted):
                await anyio.sleep(0.05)
        assert await _received(tab, job_id) == wanted


async def _leader(tabs: list[ConsoleTab]) -> ConsoleTab:
    """Return the tab that holds the lock."""
    query = "navigator.locks.query().then(all => all.held[0].clientId)"
    own = "all.held.find(lock => lock.name.startsWith('own')).clientId"
    mine = f"navigator.locks.request('own' + Math.random(), () => navigator.locks.query()).then(all => {own})"
    holder = await tabs[0].evaluate(query)
    return [tab for tab in tabs if await tab.evaluate(mine) == holder].pop()
