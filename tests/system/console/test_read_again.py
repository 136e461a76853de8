"""Lists of more than one page are read again to their end, where events are missing and while somebody looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from contracts.ids import new_id
from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.harness.servers.embedded import HOST, free_port

pytestmark = pytest.mark.anyio

#: More than one page of a list.
_COUNT: Final = 53
_LINK: Final = "document.querySelector('.menu .link').innerText"
_ROWS: Final = "document.querySelectorAll('tr[data-id]').length"
_MORE: Final = "[...document.querySelectorAll('main button')].find(one => one.innerText === 'Show more')"
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
        self.endpoint_id = self._post(http, "/v1/webhooks", url=url, types=["job.submitted"])["id"]
        job = {"workload": "scripted", "params": {"script": ["until_file /never"]}, "metadata": {"batch": self.name}}
        self.job_ids = [self._post(http, "/v1/jobs", **job)["id"] for _ in range(_COUNT)]

    def _post(self, http: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
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
    """Give events to the page, as another tab that reads the stream does."""
    told = {"tenant": http.get("/v1/browser-session").json()["tenant"], "events": events}
    await tab.evaluate(f"new BroadcastChannel('saccade-events /').postMessage({json.dumps(told)})")


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


async def test_older_deliveries_are_read_again(origin: str, http: httpx.Client, batch: Batch) -> None:
    async with console_tab(origin, f"/console/webhooks/{batch.endpoint_id}") as tab:
        await tab.until(f"{_STATES}.length", 50)
        await tab.click("section[aria-labelledby=deliveries] > p button")
        await tab.until(f"{_STATES}.length", _COUNT)
        assert set(await tab.evaluate(_STATES)) == {"To be sent"}
        http.patch(f"/v1/webhooks/{batch.endpoint_id}", json={"enabled": False}).raise_for_status()
        await tab.until(f"{_STATES}.every(state => state !== 'To be sent')")
        assert await tab.evaluate(f"{_STATES}.length") == _COUNT
        tab.check_clean()
