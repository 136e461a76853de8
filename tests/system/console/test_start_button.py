"""The button that submits a job, while each request that it needs is late or fails: a job, or a visible error."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.harness.clients.console_start import DroppedFile, drop
from tests.harness.clients.held_requests import Requests, requests_of
from tests.harness.servers.gateway import video

pytestmark = pytest.mark.anyio

_FILE = DroppedFile("notes.mp4", video())
_SUBMIT = "form.card button.primary"
_LABEL = f"document.querySelector({json.dumps(_SUBMIT)})?.innerText ?? ''"
_STATE = "[...document.querySelectorAll('.tile .state')].map(one => one.innerText).join()"
_AT_JOB = "location.pathname.startsWith('/console/jobs/job_')"
_WHERE = (
    f"(({{ x, y, width, height }}) => [x, y, width, height])"
    f"(document.querySelector({json.dumps(_SUBMIT)}).getBoundingClientRect())"
)
_DRY = "POST */v1/jobs?dry_run*"
_SUBMITS = "POST */v1/jobs"


@asynccontextmanager
async def start(
    origin: str, folder: Path, rules: dict[str, str], size: tuple[int, int] = (1280, 900)
) -> AsyncIterator[tuple[ConsoleTab, Requests]]:
    """Open the Start page with a workload, and hold what ``rules`` name from the first request on."""
    async with console_tab(origin, "/console?workload=scripted", folder, size=size) as tab:
        await tab.until("document.querySelector('.drop') !== null")
        async with requests_of(tab, "*/v1/*", "*X-Amz-*") as requests:
            requests.rules += list(rules.items())
            yield tab, requests


async def press(tab: ConsoleTab, kind: str, x: float, y: float) -> None:
    await tab.page.tab.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


@pytest.mark.parametrize("size", [(1280, 900), PHONE])
async def test_the_button_stays_below_the_pointer_while_the_price_is_answered(
    origin: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    async with start(origin, tmp_path, {_DRY: "hold"}, size) as (tab, requests):
        await drop(tab, _FILE)
        await tab.until(_STATE, "Uploaded")
        await tab.until(_LABEL, "Submit the job")
        await tab.evaluate(f"document.querySelector({json.dumps(_SUBMIT)}).scrollIntoView({{block: 'center'}})")
        before = await tab.evaluate(_WHERE)
        await press(tab, "mousePressed", before[0] + before[2] / 2, before[1] + before[3] / 2)
        await requests.let_go(_DRY)
        await tab.until("document.querySelector('.price details') !== null")
        assert await tab.evaluate(_WHERE) == before
        await press(tab, "mouseReleased", before[0] + before[2] / 2, before[1] + before[3] / 2)
        await tab.until(_AT_JOB)


async def test_the_form_is_shown_when_it_will_not_move_any_more(origin: str, tmp_path: Path) -> None:
    async with console_tab(origin, "/console", tmp_path) as tab:
        await tab.until("document.querySelector('main h3') !== null")
        async with requests_of(tab, "*.css") as requests:
            requests.hold("GET */desk.css")
            await drop(tab, _FILE)
            with anyio.fail_after(30):
                while not requests.held:
                    await anyio.sleep(0.05)
            await anyio.sleep(0.5)
            assert await tab.evaluate("document.querySelector('.desk')") is None
            await requests.let_go("GET */desk.css")
            await tab.until("getComputedStyle(document.querySelector('.desk') ?? document.body).display", "grid")


async def test_a_price_that_is_never_told_keeps_nobody_from_submitting(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path, {_DRY: "hold"}) as (tab, requests):
        await drop(tab, _FILE)
        await tab.until(f"document.querySelector({json.dumps(_SUBMIT)})?.disabled === false")
        with anyio.fail_after(30):
            while not [name for name, _ in requests.held if "dry_run" in name]:
                await anyio.sleep(0.05)
        await tab.click(_SUBMIT)
        await tab.until(_AT_JOB)


async def test_an_upload_that_fails_is_said_and_the_next_press_goes_on_with_it(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path, {"PUT *": "hold"}) as (tab, requests):
        await drop(tab, _FILE)
        await tab.until(_LABEL, "Submit when the files are uploaded")
        await tab.click(_SUBMIT)
        await tab.until("document.querySelector('.why').innerText.startsWith('It is submitted as soon as')")
        requests.refuse("PUT *", 503)
        for name, request_id in requests.held:
            await requests.take(request_id, {"method": name.split()[0], "url": name.split()[1], "headers": {}})
        await tab.until(_STATE, "Not uploaded")
        await tab.until(_LABEL, "Go on with the uploads and submit")
        assert "An upload has stopped" in await tab.text()
        # The upload is completed at the second try: the first meets a restart of the server.
        completions = len([name for name, _ in requests.seen if name.endswith("/complete")])
        requests.refuse("POST */complete", 503)
        await requests.let_go("PUT *")
        await tab.click(_SUBMIT)
        for _ in range(600):
            if len([name for name, _ in requests.seen if name.endswith("/complete")]) > completions:
                break
            await tab.evaluate("new Promise((done) => setTimeout(done, 50))")
        await requests.let_go("POST */complete")
        await tab.until(_AT_JOB)


async def test_a_submission_that_fails_is_said_and_is_the_same_one_when_it_is_repeated(
    origin: str, tmp_path: Path
) -> None:
    async with start(origin, tmp_path, {}) as (tab, requests):
        requests.refuse(_SUBMITS, 500)
        await drop(tab, _FILE)
        await tab.until(_LABEL, "Submit the job")
        await tab.click(_SUBMIT)
        await tab.until(
            "document.querySelector('form.card [role=alert]')?.innerText.includes('not submitted') ?? false"
        )
        await requests.let_go(_SUBMITS)
        await tab.click(_SUBMIT)
        await tab.until(_AT_JOB)
        keys = [headers["Idempotency-Key"] for name, headers in requests.seen if name.endswith("/v1/jobs")]
        assert len(keys) >= 2
        assert len(set(keys)) == 1


async def test_a_job_that_waits_for_its_uploads_is_submitted_on_whichever_page(origin: str, tmp_path: Path) -> None:
    async with start(origin, tmp_path, {"PUT *": "hold"}) as (tab, requests):
        await drop(tab, _FILE)
        await tab.until(_LABEL, "Submit when the files are uploaded")
        await tab.fill("form.card textarea, form.card input[type=text]", "")
        await tab.click(_SUBMIT)
        await tab.until("document.querySelector('.why button') !== null")
        await tab.go("console/keys")
        await tab.until_heading("Keys")
        assert "submitted as soon as the files are uploaded" in await tab.text()
        # Back and forth: the form shows what was wanted, and the job still waits.
        await tab.go("console")
        await tab.until("document.querySelector('.why button') !== null")
        await tab.go("console/keys")
        await tab.until_heading("Keys")
        await requests.let_go("PUT *")
        await tab.until("document.querySelector('main .note a')?.innerText", "Open the job")
        assert await tab.violations() == []
        await tab.click("main .note a")
        await tab.until(_AT_JOB)
