"""What the console shows when answers come late, are refused, or are overtaken by events and by other answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.harness.clients.console_browser import console_tab
from tests.harness.clients.held_requests import requests_of
from tests.harness.servers.embedded import HOST, free_port

pytestmark = pytest.mark.anyio

_BASE: Final = "document.querySelector('script[type=module]').src.replace(/main\\.js$/, '')"
_FEED: Final = f"import({_BASE} + 'feed.js')"
_LINK: Final = "document.querySelector('.menu .link').innerText"
_LISTS: Final = "/v1/jobs?"
_ROW: Final = "document.querySelector('tr[data-id=\"%s\"] .state')?.innerText"


def _call(origin: str, method: str, path: str, **body: Any) -> Any:
    answer = httpx.request(method, f"{origin}{path}", json=body or None, trust_env=False, timeout=60)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def _submit(origin: str, *script: str) -> str:
    made = _call(origin, "POST", "/v1/jobs", workload="scripted", params={"script": list(script)})
    return str(made["id"])


async def test_health_is_an_error_while_nobody_answers_and_is_back_afterwards(origin: str) -> None:
    alert = "document.querySelector('main [role=alert] code')?.innerText"
    good = "document.querySelectorAll('main .state.good').length >= 4"
    async with console_tab(origin, "/console/operate/health") as tab:
        await tab.until(good)
        async with requests_of(tab, "*/health") as requests:
            # The client asks again for longer than the page waits between two readings.
            requests.refuse("GET *", 503)
            await tab.until(alert, "broken")
            await requests.let_go("GET *")
            await tab.click("main [role=alert] button")
            await tab.until(good)


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("console/jobs", "*/v1/jobs?*limit=*"),
        ("console/jobs/%s", "*/v1/jobs/job_*"),
        ("console/webhooks", "*/v1/webhooks*"),
    ],
)
async def test_a_page_says_after_a_while_that_the_server_does_not_answer(origin: str, address: str, asked: str) -> None:
    status = "document.querySelector('main p[role=status]')?.innerText"
    if "%s" in address:
        address %= _submit(origin)
    async with console_tab(origin, "/console/live") as tab:
        await tab.until_heading("Live")
        async with requests_of(tab, asked) as requests:
            requests.hold("GET *")
            await tab.go(address)
            await tab.until(status, "Loading …")
            await tab.until(status, "The server does not answer yet …")
            await requests.let_go("GET *")
            await tab.until(f"![{status}].includes('The server does not answer yet …')")
            await tab.until("document.querySelector('main h1') !== null")
        tab.check_clean()


async def test_a_list_that_was_overtaken_by_events_shows_what_they_said(origin: str, tmp_path: Path) -> None:
    end = tmp_path / "end"
    job_id = _submit(origin, f"until_file {end}")
    async with console_tab(origin, "/console/live") as tab:
        await tab.until(_LINK, "Events arrive live")
        async with requests_of(tab, f"*{_LISTS}*", stage="Response") as requests:
            requests.hold("GET *")
            await tab.go("console/jobs")
            while not requests.held:  # the server has answered: the job runs, or will
                await asyncio.sleep(0.02)
            end.touch()
            new = _submit(origin)
            for ended in (job_id, new):
                wanted = f"event => event.subject === {json.dumps(ended)} && event.type === 'job.succeeded'"
                await tab.until(f"{_FEED}.then(feed => feed.received().some({wanted}))")
            await requests.let_go("GET *")
            await tab.until(_ROW % job_id, "Succeeded")
            fresh = "[...document.querySelectorAll('main button')].some(one => one.innerText.startsWith('New jobs: 1'))"
            await tab.until(fresh)
            # Where events are missing, the list is read again.
            tenant = _call(origin, "GET", "/v1/browser-session")["tenant"]
            told = json.dumps({"tenant": tenant, "events": [{"type": "gap", "data": {}}]})
            await tab.evaluate(f"new BroadcastChannel('saccade-events /').postMessage({told})")
            await tab.until(_ROW % new, "Succeeded")
            await tab.until(fresh, wanted=False)
        tab.check_clean()


async def test_what_is_typed_stays_in_the_field_and_is_no_shortcut(origin: str) -> None:
    async with console_tab(origin, "/console/jobs") as tab:
        await tab.until("document.querySelector('input[name=q]') !== null")
        await tab.click("input[name=q]")
        for typed, letter in (("g", "g"), ("gj", "j"), ("gj/", "/")):
            await tab.press(letter)
            # So long that each letter is in the address before the next one.
            await tab.until("new URLSearchParams(location.search).get('q')", typed)
        field = "document.querySelector('input[name=q]')"
        assert await tab.evaluate(f"[{field}.value, document.activeElement === {field}, location.pathname]") == [
            "gj/", True, "/console/jobs",
        ]  # fmt: skip
        await tab.evaluate("document.querySelector('.states a').click()")
        await tab.until(f"{field}.value", "")
        tab.check_clean()


async def test_an_act_that_failed_is_tried_again(origin: str, tmp_path: Path) -> None:
    job_id = _submit(origin, f"until_file {tmp_path / 'never'}")
    async with console_tab(origin, f"/console/jobs/{job_id}") as tab:
        await tab.until("document.querySelector('.actions .danger') !== null")
        async with requests_of(tab, "*/cancel") as requests:
            requests.refuse("POST *", 409)
            await tab.click(".actions .danger")
            await tab.until("document.querySelector('dialog[open]') !== null")
            await tab.click("dialog[open] button[value=yes]")
            await tab.until("document.querySelector('main [role=alert] code')?.innerText", "broken")
            await requests.let_go("POST *")
            await tab.click("main [role=alert] button")
            await tab.until("document.querySelector('[data-field=state]')?.dataset.value", "cancelled")


async def test_a_count_that_nobody_waits_for_opens_no_dialog(origin: str) -> None:
    made = _call(origin, "POST", "/v1/webhooks", url=f"http://{HOST}:{free_port()}/", types=["job.submitted"])
    async with console_tab(origin, f"/console/webhooks/{made['id']}") as tab:
        await tab.until("document.querySelector('[data-do=redeliver-all]')?.disabled", False)
        async with requests_of(tab, "*state=failed*", "*state=cancelled*") as requests:
            requests.hold("GET *")
            await tab.click("[data-do=redeliver-all]")
            await tab.until("document.querySelector('dialog[open]') !== null")
            await tab.click("dialog[open] button[value=no]")
            await tab.until("document.querySelector('main dialog') === null")
            await requests.let_go("GET *")
            asked = "performance.getEntriesByType('resource').some(({ name }) => name.includes('state=cancelled'))"
            await tab.until(asked)
            await tab.until("document.querySelector('.deliveries, .empty') !== null")
            assert await tab.evaluate("document.querySelector('main dialog')") is None
        _call(origin, "DELETE", f"/v1/webhooks/{made['id']}")
        tab.check_clean()


async def test_a_slider_does_not_change_the_address_too_often(origin: str) -> None:
    async with console_tab(origin, "/console/keys?x=y") as tab:
        await tab.until_heading("Keys")
        counted = """
        import(%s + 'router.js').then(({ route, setQuery }) => {
          const replace = history.replaceState;
          window.replaced = 0;
          history.replaceState = (...given) => ((window.replaced += 1), replace.apply(history, given));
          for (let step = 1; step <= 300; step += 1) {
            setQuery({ at: step });
            if (route.value.query.get('at') !== String(step)) return 'the page lags behind';
          }
          return route.value.query.toString();
        })"""
        assert await tab.evaluate(counted % _BASE) == "x=y&at=300"
        await tab.until("location.search", "?x=y&at=300")
        assert await tab.evaluate("window.replaced") <= 4
        # A link leaves the newest address in the history.
        twice = "({ setQuery }) => { setQuery({ at: 1 }); setQuery({ at: 2 }); }"
        await tab.evaluate(f"import({_BASE} + 'router.js').then({twice})")
        await tab.go("console/live")
        await tab.until_heading("Live")
        await tab.evaluate("history.back()")
        await tab.until_heading("Keys")
        assert await tab.evaluate("location.search") == "?x=y&at=2"
        tab.check_clean()


async def test_the_menu_says_that_events_arrive_when_they_do(origin: str) -> None:
    async with console_tab(origin, "/console/live") as tab:
        await tab.until(_LINK, "Events arrive live")
        async with requests_of(tab, "*/v1/events*") as requests:
            # So answers the origin while the notifier is away.
            requests.answer("GET *", "text/event-stream", b":\nretry: 10\n")
            await tab.page.tab.send("Page.reload")
            await tab.until("document.querySelector('.menu .link')?.innerText", "Connection lost; trying again")
            await tab.evaluate(
                f"{_FEED}.then(({{ state }}) => {{ window.said = []; state.subscribe(now => window.said.push(now)); }})"
            )
            before = len(requests.seen)
            while len(requests.seen) < before + 2:
                await asyncio.sleep(0.05)
            assert await tab.evaluate("window.said") == ["lost"]
            await requests.let_go("GET *")
            await tab.until(_LINK, "Events arrive live")
            tab.check_clean()
