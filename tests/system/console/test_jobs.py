"""Pages Jobs and Job: jobs followed live, results shown by media type, the slider, acts, and hostile text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
from saccade_client import Client

from contracts.ids import new_id
from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.harness.servers.gateway import picture, video

pytestmark = pytest.mark.anyio

_HOSTILE: Final = "<img src=x onerror=alert(1)>"
_STATE: Final = "document.querySelector('[data-field=state]')?.dataset.value"
_ROW: Final = "document.querySelector('tr[data-id=\"%s\"] .state')?.innerText"
_CHOSEN: Final = "document.querySelector('.chips [aria-pressed=true]')?.innerText"
_PAGE: Final = "<!doctype_html> <title>A</title> <p>report</p> <script>parent.document.body.innerHTML='taken'</script>"


@pytest.fixture
def client(origin: str) -> Iterator[Client]:
    with Client(origin) as opened:
        yield opened


Submit = Callable[..., str]


@pytest.fixture
def submit(client: Client) -> Submit:
    """Return a function that submits a script and returns the job's id."""

    def submitted(*steps: str, **more: Any) -> str:
        return client.submit("scripted", {}, {"script": list(steps)}, **more).id

    return submitted


async def test_a_job_is_followed_from_the_list_to_its_result(origin: str, client: Client, tmp_path: Path) -> None:
    clip = tmp_path / f"{_HOSTILE}.mp4"
    clip.write_bytes(video(frames=100, codec="libx264"))
    half, end = tmp_path / "half", tmp_path / "end"
    steps = [
        *("stage first", "progress 0.5 <b>half</b>", f"until_file {half}", "publish_input clip.mp4 video/mp4"),
        *("write table.csv text/csv lap,delta\\n1,<i>0.25</i>\\n", f"write report.html text/html {_PAGE}"),
        'write list.json application/json [{"a":1},{"a":2,"b":"<u>x</u>"}]',
        *("stage second", f"until_file {end}"),
    ]  # fmt: skip
    async with console_tab(origin, "/console/jobs") as tab:
        await tab.until_heading("Jobs")
        await tab.until("document.querySelector('.menu [role=status]').innerText", "Events arrive live")
        upload = client.upload(clip)
        job = client.submit("scripted", {"clip": upload}, {"script": steps}, metadata={"lap": "<s>7</s>"})
        await tab.until("[...document.querySelectorAll('button')].some(one => one.innerText.startsWith('New jobs'))")
        await tab.evaluate("[...document.querySelectorAll('button')].find(b => b.innerText.startsWith('New')).click()")
        await tab.until(_ROW % job.id, "Running")
        await tab.click(f'tr[data-id="{job.id}"] a.title')
        await tab.until_heading(clip.name)
        await tab.until(_STATE, "running")
        await tab.until("document.querySelector('.progress').innerText.includes('<b>half</b>')")
        half.touch()
        await tab.until(_CHOSEN, "report.html")
        end.touch()
        await tab.until(_STATE, "succeeded")
        assert "<s>7</s>" in await tab.text()
        await check_files(tab)
        # Nothing that a worker or an uploader wrote has become markup of the page.
        assert await tab.evaluate("document.querySelectorAll('main img, main s, main i, main u').length") == 0
        assert "taken" not in await tab.text()
        await tab.evaluate("document.querySelector('.menu a[href$=\"/jobs\"]').click()")
        await tab.until(_ROW % job.id, "Succeeded")
    assert client.job(job.id).state == "succeeded"


async def check_files(tab: ConsoleTab) -> None:
    """Check the page among the files, the tables, and a link to a moment of the video."""
    frame = "document.querySelector('iframe.view')"
    assert await tab.evaluate(f"{frame}.getAttribute('sandbox')") == "allow-scripts allow-downloads allow-popups"
    for name, cell in (("table.csv", "<i>0.25</i>"), ("list.json", "<u>x</u>")):
        await tab.evaluate(
            f"[...document.querySelectorAll('.chips button')].find(b => b.innerText === '{name}').click()"
        )
        cells = "[...document.querySelectorAll('.view td')].map(one => one.innerText)"
        await tab.until(f"{cells}.includes({json.dumps(cell)})")
    address = await tab.evaluate("location.pathname")
    await tab.go(f"{address}?file=clip.mp4&t=8.5")
    await tab.until("document.querySelector('video')?.currentTime", 8.5)
    await tab.until("document.querySelector('video').seeking", False)
    assert await tab.evaluate("document.querySelector('video').duration") == 10


async def test_what_failed_says_why_and_can_be_retried(
    origin: str, client: Client, submit: Submit, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    job_id = submit("stage first", "write a.txt text/plain kept", f"fail_without {mended}")
    async with console_tab(origin, f"/console/jobs/{job_id}") as tab:
        await tab.until(_STATE, "failed")
        error = client.job(job_id).error
        assert error is not None
        text = await tab.text()
        assert "The script <b>says</b> so." in text
        assert error.hint in text
        mended.touch()
        await tab.evaluate("[...document.querySelectorAll('button')].find(b => b.innerText === 'Retry').click()")
        await tab.until(_STATE, "succeeded")
        await tab.until("document.querySelectorAll('.span.interrupted, .span.failed').length > 0")
        await tab.until("document.querySelectorAll('.span.done').length > 0")
        assert await tab.evaluate("document.querySelector('[data-field=attempt]').dataset.value") == "2"
        await tab.evaluate("[...document.querySelectorAll('a')].find(a => a.innerText.startsWith('Again')).click()")
        fields = "[...document.querySelectorAll('main input, main textarea')]"
        await tab.until(f"{fields}.some(field => field.value.includes('fail_without'))")
        await tab.go(f"console/jobs/{new_id('job')}")
        await tab.until("document.querySelector('main [role=alert] code')?.innerText", "job_not_found")


async def test_the_page_at_any_event_is_what_the_api_says_of_it(
    origin: str, client: Client, submit: Submit, tmp_path: Path
) -> None:
    mended = tmp_path / "mended"
    saved = [step for name in range(6) for step in (f"write f{name}.txt text/plain {name}", "progress 0.5")]
    job_id = submit("stage first", *saved, "stage second", f"fail_without {mended}")
    client.job(job_id, wait_s=60)
    mended.touch()
    client.retry(job_id)
    while client.job(job_id, wait_s=20).state != "succeeded":
        pass
    points = [event.cursor for event in client.events(job_id) if event.cursor]
    assert len(points) >= 20
    async with console_tab(origin, f"/console/jobs/{job_id}?at={points[0]}") as tab:
        for index, point in enumerate(points):
            await tab.go(f"console/jobs/{job_id}?at={point}")
            await check_point(tab, httpx.get(f"{origin}/v1/jobs/{job_id}", params={"at": point}).json(), index, point)
        for key, wanted in (("ArrowLeft", len(points) - 2), ("ArrowLeft", len(points) - 3), ("Home", 0)):
            await tab.evaluate("document.querySelector('.chart').focus()")
            await tab.press(key)
            await tab.until("new URLSearchParams(location.search).get('at')", points[wanted])
        await tab.press("End")
        await tab.until("new URLSearchParams(location.search).get('at')", None)
        await tab.until(_STATE, "succeeded")
        await tab.fill(".slider input", "3")
        await tab.until("new URLSearchParams(location.search).get('at')", points[3])
        rows = "[...document.querySelectorAll('a.event')].map(row => new URLSearchParams(row.search).get('at'))"
        await tab.until(f"{rows}.join()", ",".join(points[:4]))
        await tab.go(f"console/jobs/{job_id}?at=2000-01-01T00:00:00Z")
        await tab.until("document.querySelector('main [role=alert] code')?.innerText", "not_created_yet")


async def test_what_changed_between_two_marks_is_what_the_api_says(
    origin: str, submit: Submit, client: Client, tmp_path: Path
) -> None:
    job_id = submit("stage first", "write a.txt text/plain <b>a</b>", "stage second", "work 0.1")
    while client.job(job_id, wait_s=20).state != "succeeded":
        pass
    points = [event.cursor for event in client.events(job_id) if event.cursor]
    told = "document.querySelector('[aria-labelledby=changes-title] [role=status]')?.innerText"
    names = "[...document.querySelectorAll('[aria-labelledby=changes-title] td code')].map(one => one.innerText)"
    async with console_tab(origin, f"/console/jobs/{job_id}?at={points[1]}", tmp_path) as tab:
        await tab.until("document.querySelector('.note.fair')?.getAttribute('aria-busy')", "false")
        mark = "[...document.querySelectorAll('.slider button')].find(one => one.innerText === 'Set a mark here')"
        await tab.until(f"{mark} !== undefined")
        await tab.evaluate(f"{mark}.click()")
        for until in (points[-2], points[0], None):
            await tab.go(f"console/jobs/{job_id}?mark={points[1]}" + (f"&at={until}" if until else ""))
            first, last = sorted((points[1], until), key=points.index) if until else (points[1], None)
            between = {"since": first} | ({"until": last} if last else {})
            found = httpx.get(f"{origin}/v1/jobs/{job_id}/changes", params=between).json()
            wanted = [one["pointer"][1:].replace("/", ".") for one in found["changed"]]
            await tab.until(f"{names}.join()", ",".join(wanted))
            assert f"Fields that changed: {len(wanted)}." in await tab.evaluate(told)
        await tab.until("document.querySelector('.chart .marked') !== null")
        assert await tab.violations() == []
        assert tab.page.complaints() == []


async def check_point(tab: ConsoleTab, past: dict[str, Any], index: int, point: str) -> None:
    shown = (
        "(field => [document.querySelector('.note code')?.innerText, field('state'), Number(field('cost')),"
        " Number(field('attempt')), document.querySelector('.slider input')?.value,"
        " document.querySelector('.note.fair')?.getAttribute('aria-busy')].join(' '))"
        "(name => document.querySelector(`[data-field=${name}]`)?.dataset.value)"
    )
    cost = f"{past['cost']['actual_usd']:g}"
    await tab.until(shown, f"{point} {past['state']} {cost} {past['attempt']} {index} false")


async def test_a_job_that_was_left_keeps_no_memory(origin: str, client: Client, submit: Submit, tmp_path: Path) -> None:
    job_id = submit("stage first", "work 0.1")
    client.job(job_id, wait_s=60)
    async with console_tab(origin, f"/console/jobs/{job_id}", tmp_path) as tab:
        await tab.until("document.querySelector('.chart svg') !== null")
        base = "document.querySelector('script[type=module]').src.replace(/main\\.js$/, '')"
        kind = {
            "expression": f"import({base} + 'pages/jobs/job/history.js').then((module) => module.History.prototype)"
        }
        prototype = (await tab.page.tab.send("Runtime.evaluate", **kind, awaitPromise=True))["result"]["objectId"]

        async def histories() -> int:
            await tab.page.tab.send("HeapProfiler.collectGarbage")
            found = await tab.page.tab.send("Runtime.queryObjects", prototypeObjectId=prototype, objectGroup="found")
            count = await tab.page.tab.send(
                "Runtime.callFunctionOn",
                functionDeclaration="function () { return this.length; }",
                objectId=found["objects"]["objectId"],
                returnByValue=True,
            )
            await tab.page.tab.send("Runtime.releaseObjectGroup", objectGroup="found")
            return int(count["result"]["value"])

        assert await histories() == 1
        await tab.go("console/keys")
        await tab.until_heading("Keys")
        with anyio.fail_after(30):
            while await histories():
                await anyio.sleep(0.2)


async def test_several_jobs_are_cancelled_at_once_and_found_by_filters(
    origin: str, client: Client, submit: Submit, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    jobs = [submit("stage first", f"until_file {never}", metadata={"batch": "b7"}) for _ in range(2)]
    async with console_tab(origin, "/console/jobs?state=submitted&state=queued&state=starting&state=running") as tab:
        for job_id in jobs:
            await tab.until(f"document.querySelector('tr[data-id=\"{job_id}\"]') !== null")
            # By script: rows move while others appear and the bar of marked jobs opens above them.
            mark = f"document.querySelector('tr[data-id=\"{job_id}\"] input')"
            await tab.evaluate(f"{mark}.click()")
            await tab.until(f"{mark}.checked")
        await tab.click(".bulk .danger")
        await tab.until("document.querySelector('dialog[open]') !== null")
        await tab.evaluate("document.querySelector('dialog button[value=yes]').click()")
        await tab.until("document.querySelector('.bulk [role=status]')?.innerText.trim()", "2 of 2 done, 0 refused")
        for job_id in jobs:
            assert client.job(job_id, wait_s=60).state == "cancelled"
        await tab.go("console/jobs?state=cancelled")
        await tab.until(f"document.querySelector('tr[data-id=\"{jobs[0]}\"]') !== null")
        states = "[...document.querySelectorAll('tbody .state')].map(one => one.innerText)"
        assert set(await tab.evaluate(states)) == {"Cancelled"}
        await tab.go("console/jobs?rule=rul_00000000-0000-7000-8000-000000000000")
        await tab.until("document.querySelector('main .empty')?.innerText.startsWith('No job matches')")
        await tab.go(f"console/jobs/{jobs[0]}?with={jobs[1]}")
        await tab.until("document.querySelector('#compare-title')?.innerText", "Comparison")


async def test_all_matching_jobs_are_cancelled_by_a_plan(
    origin: str, client: Client, submit: Submit, tmp_path: Path
) -> None:
    never, batch = tmp_path / "never", new_id("req")
    jobs = [submit("stage first", f"until_file {never}", metadata={"batch": batch}) for _ in range(3)]
    async with console_tab(origin, f"/console/jobs?q={batch}") as tab:
        await tab.until("document.querySelectorAll('tr[data-id]').length", 3)
        await tab.click(".all-matching button")
        await tab.until("document.querySelector('dialog[open] h2')?.innerText", "Cancel 3 jobs")
        await tab.fill("dialog input", "wrong <b>laps</b>")
        await tab.evaluate("document.querySelector('dialog button[value=yes]').click()")
        await tab.until("new URLSearchParams(location.search).get('plan')?.slice(0, 4)", "jbp_")
        await tab.until("document.querySelector('.plan')?.innerText.includes('3 done, 0 failed')")
        assert "wrong <b>laps</b>" in await tab.text()
        shown = "[...document.querySelectorAll('tr[data-id]')].map(row => row.dataset.id)"
        assert set(await tab.evaluate(shown)) == set(jobs)
        for job_id in jobs:
            await tab.until(_ROW % job_id, "Cancelled")
        tab.check_clean()


async def test_a_job_fits_on_a_phone_and_is_accessible(origin: str, client: Client, submit: Submit) -> None:
    job_id = submit("stage first", "write a.csv text/csv a,b\\n1,2", "stage second", "work 0.1")
    client.job(job_id, wait_s=60)
    async with console_tab(origin, f"/console/jobs/{job_id}", size=PHONE, scheme="dark") as tab:
        await tab.until(_STATE, "succeeded")
        await tab.until("document.querySelector('.view td') !== null")
        # From top to bottom, with the waits between; a tap shows the job as of there.
        steps = "[...document.querySelectorAll('.steps .step b')].map(one => one.innerText)"
        await tab.until(f"{steps}.includes('First') && {steps}.includes('Second') && {steps}.includes('Waiting')")
        assert await tab.width_px() <= PHONE[0]
        assert await tab.violations() == []
        await tab.evaluate("document.querySelector('.steps button').click()")
        await tab.until("document.querySelector('.steps [aria-current]') !== null")
        await tab.until("new URLSearchParams(location.search).has('at')")


async def test_a_pipeline_shows_its_stages_and_their_jobs(origin: str, client: Client, tmp_path: Path) -> None:
    uploads = []
    for number in range(3):
        photo = tmp_path / f"{number}.png"
        photo.write_bytes(picture(64 + number, 48))
        uploads.append(client.upload(photo))
    job = client.submit("nerf", {"photos": uploads}, {})
    async with console_tab(origin, f"/console/jobs/{job.id}") as tab:
        # So few photos are refused by the first stage.
        await tab.until(_STATE, "failed")
        changes = httpx.get(f"{origin}/v1/jobs/{job.id}/changes", params={"since": job.created_at}).json()
        await tab.until("Number(document.querySelector('.slider input')?.max)", len(changes["events"]))
        lanes = "[...document.querySelectorAll('.lane .name')].map(one => one.textContent)"
        assert "Check the photos" in await tab.evaluate(lanes)
        rows = "[...document.querySelectorAll('[aria-labelledby=stages-title] tbody tr')].map(row => row.innerText)"
        assert len(await tab.evaluate(rows)) == len(client.job(job.id).stages)
        await tab.click("[aria-labelledby=stages-title] td a")
        await tab.until("document.querySelector('.page-head a[href*=\"/jobs/job_\"]')?.innerText", job.id)
        await tab.until(_STATE, "failed")
        # It is retried with its pipeline.
        assert await tab.evaluate("[...document.querySelectorAll('.actions button')][0].disabled")
        assert tab.page.complaints() == []
