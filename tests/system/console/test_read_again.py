"""Lists of more than one page are read again to their end, where events are missing and while somebody looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from contracts.ids import new_id
from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.harness.clients.held_requests import requests_of
from tests.harness.servers.embedded import HOST, free_port

pytestmark = pytest.mark.anyio

#: More than one page of a list.
_COUNT: Final = 53
_LINK: Final = "document.querySelector('.menu .link').innerText"
_ROWS: Final = "document.querySelectorAll('tr[data-id]').length"
_MORE: Final = "[...document.querySelectorAll('main button')].find(one => one.innerText === 'Show more')"
_OLDER: Final = "section[aria-labelledby=deliveries] > p button"
_STATES: Final = "[...document.querySelectorAll('.deliveries .state')].map(one => one.innerText)"


@pytest.fixture(scope="module")
def http(origin: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=origin, trust_env=False, timeout=60) as client:
        yield client


class Batch:
    """Jobs that wait for a file that never comes, and an endpoint that nobody answers for."""

    def __init__(self, http: httpx.Client) -> None:
        self.name = new_id("req")
        url = f"http://{HOST}:{free_port()}/"
        self.endpoint_id = self.post(http, "/v1/webhooks", url=url, types=["job.submitted"])["id"]
        job = {"workload": "scripted", "params": {"script": ["until_file /never"]}, "metadata": {"batch": self.name}}
        self.job_ids = [self.post(http, "/v1/jobs", **job)["id"] for _ in range(_COUNT)]

    def post(self, http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
        """Post a body and return the answer."""
        answer = http.post(path, json=body)
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture(scope="module")
def batch(http: httpx.Client) -> Iterator[Batch]:
    batch = Batch(http)
    yield batch
    for job_id in batch.job_ids:
        http.post(f"/v1/jobs/{job_id}/cancel")
    http.delete(f"/v1/webhooks/{batch.endpoint_id}")


async def tell(tab: ConsoleTab, http: httpx.Client, *events: dict[str, Any]) -> None:
    """Send events to the page, as another tab that reads the stream does."""
    told = {"tenant": http.get("/v1/browser-session").json()["tenant"], "events": events}
    await tab.evaluate(f"new BroadcastChannel('saccade-events /').postMessage({json.dumps(told)})")


async def polls_often(tab: ConsoleTab) -> None:
    """Make what the page does at intervals ten times as frequent, from the next page on."""
    await tab.evaluate(
        "(given => { window.setInterval = (work, ms) => given(work, ms / 10); })(setInterval.bind(window))"
    )


async def test_all_rows_of_the_jobs_are_read_again_after_a_gap(origin: str, http: httpx.Client, batch: Batch) -> None:
    oldest = batch.job_ids[0]
    state = f"document.querySelector('tr[data-id=\"{oldest}\"] .state')?.innerText"
    async with console_tab(origin, f"/console/jobs?q={batch.name}") as tab:
        await tab.until(_LINK, "Events arrive live")
        await tab.until(_ROWS, 50)
        await tab.evaluate(f"{_MORE}.click()")
        await tab.until(_ROWS, _COUNT)
        # A state of which no event says that it is over, as where that event is missing.
        await tell(tab, http, {"type": "job.waiting_for_gpu", "subject": oldest, "data": {"attempt": 1}})
        await tab.until(state, "Waiting for a GPU")
        await tell(tab, http, {"type": "gap", "data": {}})
        await tab.until(f"['Submitted', 'Queued', 'Starting', 'Running'].includes({state})")
        assert await tab.evaluate(_ROWS) == _COUNT
        tab.check_clean()


async def test_jobs_can_be_marked_on_a_phone(origin: str, batch: Batch) -> None:
    async with console_tab(origin, f"/console/jobs?q={batch.name}", size=PHONE) as tab:
        await tab.until(_ROWS, 50)
        await tab.click(f'tr[data-id="{batch.job_ids[-1]}"] td.pick input')
        await tab.until("document.querySelector('.bulk b')?.innerText", "1 marked")
        assert await tab.evaluate("document.querySelector('td.pick input').getBoundingClientRect().width") > 10


async def test_a_job_is_read_again_after_a_gap(origin: str, http: httpx.Client, batch: Batch) -> None:
    path = f"/v1/jobs/{batch.job_ids[-1]}"
    asked = (
        "performance.getEntriesByType('resource')"
        f".filter(({{ name }}) => new URL(name).pathname === {json.dumps(path)}).length"
    )
    async with console_tab(origin, f"/console/jobs/{batch.job_ids[-1]}") as tab:
        await tab.until(_LINK, "Events arrive live")
        await tab.until("document.querySelector('[data-field=state]') !== null")
        await tab.until("document.querySelector('.chart svg') !== null")
        await tab.evaluate("new Promise(resolve => setTimeout(resolve, 2500))")  # what the opened stream makes it read
        before = await tab.evaluate(asked)
        await tell(tab, http, {"type": "gap", "data": {}})
        await tab.until(f"{asked} > {before}")
        tab.check_clean()


async def test_very_many_new_jobs_are_read_down_to_a_bound(origin: str, http: httpx.Client, batch: Batch) -> None:
    async with console_tab(origin, f"/console/jobs?q={batch.name}") as tab:
        await tab.until(_LINK, "Events arrive live")
        await tab.until(_ROWS, 50)
        page = http.get("/v1/jobs", params={"q": batch.name, "limit": 50, "incomplete": True}).json()
        async with requests_of(tab, "*/v1/jobs?*limit=*") as requests:
            # None of these pages reaches the oldest row that is shown.
            for number in range(12):
                jobs = [
                    {**job, "id": f"{job['id']}{number}", "created_at": "2999-01-01T00:00:00Z"} for job in page["data"]
                ]
                answer = {**page, "data": jobs, "next_cursor": f"after-{number:02}", "searched_to": None}
                pattern = f"GET *cursor=after-{number - 1:02}*" if number else "GET *"
                requests.answer(pattern, "application/json", json.dumps(answer).encode())
            await tell(tab, http, {"type": "gap", "data": {}})
            await tab.until(_ROWS, 250)
            assert len(requests.seen) == 5
            await tab.evaluate(f"{_MORE}.click()")
            await tab.until(_ROWS, 300)
            assert "cursor=after-04" in requests.seen[-1][0]
        tab.check_clean()


async def test_gaps_that_come_faster_than_answers_lead_to_one_more_reading(
    origin: str, http: httpx.Client, batch: Batch
) -> None:
    newest = batch.job_ids[-1]
    state = f"document.querySelector('tr[data-id=\"{newest}\"] .state')?.innerText"
    async with console_tab(origin, f"/console/jobs?q={batch.name}") as tab:
        await tab.until(_LINK, "Events arrive live")
        await tab.until(_ROWS, 50)
        await tell(tab, http, {"type": "job.waiting_for_gpu", "subject": newest, "data": {"attempt": 1}})
        await tab.until(state, "Waiting for a GPU")
        async with requests_of(tab, "*/v1/jobs?*limit=*", stage="Response") as requests:
            requests.hold("GET *")
            for _ in range(4):
                await tell(tab, http, {"type": "gap", "data": {}})
                await asyncio.sleep(0.5)
            assert len(requests.held) == len(requests.seen) == 1
            # The answer is shown, although events were missing after it was asked for.
            name, request_id = requests.held.pop()
            await tab.page.tab.send("Fetch.continueRequest", requestId=request_id)
            await tab.until(f"['Submitted', 'Queued', 'Starting', 'Running'].includes({state})")
            while not requests.held:
                await asyncio.sleep(0.02)
            await requests.let_go("GET *")
            await asyncio.sleep(1)
            assert [name for name, _ in requests.seen] == [name, name]
        tab.check_clean()


async def test_deliveries_that_are_to_be_sent_are_not_read_again_by_each_poll(
    origin: str, http: httpx.Client, batch: Batch
) -> None:
    asked = (
        "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/deliveries?'))"
        ".filter(({ name }) => name.includes('cursor=') === %s).length"
    )
    async with console_tab(origin, "/console/webhooks") as tab:
        await tab.until_heading("Webhooks")
        await polls_often(tab)
        await tab.go(f"console/webhooks/{batch.endpoint_id}")
        await tab.until(f"{_STATES}.length", 50)
        await tab.click(_OLDER)
        await tab.until(f"{_STATES}.length", _COUNT)
        assert set(await tab.evaluate(_STATES)) == {"To be sent"}
        polls, older = await tab.evaluate(f"[{asked % 'false'}, {asked % 'true'}]")
        await tab.until(f"{asked % 'false'} >= {polls + 20}")
        assert 1 <= await tab.evaluate(asked % "true") - older <= 4
        tab.check_clean()


async def test_older_deliveries_are_read_again(origin: str, http: httpx.Client, batch: Batch) -> None:
    path = f"/v1/webhooks/{batch.endpoint_id}/deliveries"
    count = len(http.get(path, params={"limit": 200}).json()["data"])
    async with console_tab(origin, "/console/webhooks") as tab:
        await tab.until_heading("Webhooks")
        await polls_often(tab)
        await tab.go(f"console/webhooks/{batch.endpoint_id}")
        await tab.until(f"{_STATES}.length", 50)
        await tab.click(_OLDER)
        await tab.until(f"{_STATES}.length", count)
        assert set(await tab.evaluate(_STATES)) == {"To be sent"}
        http.patch(f"/v1/webhooks/{batch.endpoint_id}", json={"enabled": False}).raise_for_status()
        await tab.until(f"{_STATES}.every(state => state !== 'To be sent')")
        assert await tab.evaluate(f"{_STATES}.length") == count
        tab.check_clean()


async def test_deliveries_that_arrive_while_older_ones_are_read_hide_none(
    origin: str, http: httpx.Client, batch: Batch
) -> None:
    path = f"/v1/webhooks/{batch.endpoint_id}/deliveries"
    # Older deliveries that are to be sent would be read again for that alone.
    http.patch(f"/v1/webhooks/{batch.endpoint_id}", json={"enabled": False}).raise_for_status()
    while http.get(path, params={"limit": 1, "state": "pending"}).json()["data"]:
        await asyncio.sleep(0.05)
    http.patch(f"/v1/webhooks/{batch.endpoint_id}", json={"enabled": True}).raise_for_status()
    count = len(http.get(path, params={"limit": 200}).json()["data"])
    first = "document.querySelector('.deliveries .hint')?.innerText"
    async with console_tab(origin, f"/console/webhooks/{batch.endpoint_id}") as tab:
        await tab.until(f"{_STATES}.length", 50)
        async with requests_of(tab, "*cursor=*", stage="Response") as requests:
            requests.hold("GET *")
            await tab.click(_OLDER)
            while not requests.held:
                await asyncio.sleep(0.02)
            new = [batch.post(http, "/v1/jobs", workload="scripted", params={"script": []})["id"] for _ in range(2)]
            await tab.until(first, new[-1])
            await requests.let_go("GET *")
            await tab.until(f"{_STATES}.length", count + len(new))
        tab.check_clean()
