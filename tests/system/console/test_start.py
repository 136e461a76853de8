"""The Start page in Chromium: from dropped files to a job that has succeeded, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.clients.console_start import DroppedFile, block, drag, drag_over, drop, parts_sent
from tests.harness.servers.gateway import picture
from tests.harness.vision.short_laps import render_short_laps

pytestmark = pytest.mark.anyio

MIB = 1024**2
_NAMES = "[...document.querySelectorAll('.tile .name')].map(one => one.innerText).join()"
_STATES = "[...document.querySelectorAll('.tile .state')].map(one => one.innerText).join()"
_CHOSEN = "document.querySelector('.option.chosen b')?.innerText ?? ''"
_QUESTION = "document.querySelector('section.card:has(.options) h2')?.innerText"
_SUBMIT = "form.card button.primary"


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    one, other = render_short_laps(tmp_path_factory.mktemp("laps"))
    return one.read_bytes(), other.read_bytes()


@pytest.fixture
def http(origin: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=origin, trust_env=False, timeout=90) as client:
        yield client


def ended(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """Return a job when it has ended."""
    for _ in range(5):
        job: dict[str, Any] = http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=60"}).json()
        if job["finished_at"]:
            break
    return job


async def choose(tab: ConsoleTab, workload: str) -> None:
    """Choose a workload with the mouse."""
    await tab.until(f"document.querySelector('input[value={workload}]') !== null")
    await tab.evaluate(
        f"document.querySelector('input[value={workload}]').closest('details')?.setAttribute('open', '')"
    )
    await tab.click(f"input[value={workload}]")


async def test_two_videos_become_a_comparison(origin: str, http: httpx.Client, laps: tuple[bytes, bytes]) -> None:
    async with console_tab(origin, "/console") as tab:
        await tab.until("document.querySelector('main h3') !== null")
        assert "saccade demo --url" in await tab.text()
        await tab.go("console/keys")  # from any page files lead to the start
        await tab.until("document.querySelector('main h1') !== null")
        await drop(
            tab,
            DroppedFile("lap_b.mp4", laps[1]),
            DroppedFile("notes.txt", b"x", "text/plain"),
            DroppedFile("lap_a.mp4", laps[0]),
        )
        await tab.until(_CHOSEN, "Lap comparison")
        await tab.until(_NAMES, "lap_a.mp4,lap_b.mp4")
        assert "notes.txt is neither a video nor a photo nor a ZIP (text/plain)." in await tab.text()
        await tab.until("document.querySelectorAll('.tile canvas:not([hidden])').length", 2)
        await tab.evaluate(
            "[...document.querySelectorAll('main button')].find(one => one.innerText.startsWith('Swap')).click()"
        )
        await tab.until(_NAMES, "lap_b.mp4,lap_a.mp4")
        await drag(tab, ".tiles + .tiles .tile", ".tiles .tile")
        await tab.until(_NAMES, "lap_a.mp4,lap_b.mp4")
        await tab.until(_STATES, "Uploaded,Uploaded")
        await tab.until("document.querySelector('.price [role=status]').innerText.startsWith('With these files')")
        assert await tab.evaluate("document.querySelector('.price .amount').innerText") == "No charge"
        # Shown before it is submitted, and the same command does it without a browser.
        await tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert "Render overlay and clips" in await tab.text()
        assert "saccade submit lap_compare ./lap_a.mp4 ./lap_b.mp4 --watch" in await tab.text()
        await tab.click(_SUBMIT)
        await tab.until("location.pathname.startsWith('/console/jobs/job_')")
        job = ended(http, (await tab.evaluate("location.pathname")).rpartition("/")[2])
        assert job["state"] == "succeeded", job["error"]
        assert [name for name, [file] in job["inputs"].items() if file["filename"] == "lap_a.mp4"] == ["reference"]
        # The page forgets the files of a job, and can begin with an earlier one's.
        await tab.go("console")
        await tab.until("document.querySelectorAll('.tile').length", 0)
        await tab.go(f"console?like={job['id']}")
        await tab.until(_NAMES, "lap_a.mp4,lap_b.mp4")
        await tab.until(_CHOSEN, "Lap comparison")
        await tab.until("document.querySelector('.price [role=status]').innerText.startsWith('With these files')")
        body = await tab.evaluate("[...document.querySelectorAll('.commands pre')].at(-1).textContent")
        assert f'"params":{{}},"metadata":{{"like":"{job["id"]}"}}' in body
        assert await tab.violations() == []
        assert [text for text in tab.page.complaints() if "/jobs/page.js" not in text] == []


async def test_files_are_taken_when_the_page_has_just_changed_below_them(
    origin: str, tmp_path: Path, laps: tuple[bytes, bytes]
) -> None:
    video = tmp_path / "lap_a.mp4"
    video.write_bytes(laps[0])
    async with console_tab(origin, "/console") as tab:
        await tab.until("document.querySelector('main h3') !== null")
        await drag_over(tab, "dragEnter", [video], 400, 200)
        await drag_over(tab, "dragOver", [video], 400, 200)
        await tab.until("document.querySelector('main .drop.over') !== null")
        # Another element is there now, as when a list arrives: the drop's first event is that it is entered.
        await tab.evaluate(_COVER)
        await drag_over(tab, "drop", [video], 400, 200)
        await tab.until(_NAMES, "lap_a.mp4")
        tab.check_clean()


async def test_an_upload_goes_on_after_an_error_and_after_a_reload(
    origin: str, http: httpx.Client, laps: tuple[bytes, bytes]
) -> None:
    hostile = '"><img src=x onerror=document.title=1>.mp4'
    large = DroppedFile(hostile, laps[0], padding_bytes=33 * MIB)
    async with console_tab(origin, "/console") as tab:
        await tab.until("document.querySelector('main h3') !== null")
        await block(tab, ["*partNumber=3*"])
        await drop(tab, large)
        await choose(tab, "scripted")
        await tab.until(_STATES, "Not uploaded")
        alert = await tab.evaluate("document.querySelector('.tile [role=alert]').innerText")
        assert "Nothing was lost" in alert
        assert "storage_unavailable" in alert
        assert (
            await tab.evaluate(f"document.querySelector('{_SUBMIT}').innerText") == "Go on with the uploads and submit"
        )
        assert await tab.evaluate(_NAMES) == hostile
        assert await tab.evaluate("document.querySelector('main img')") is None
        # Still broken, and after a reload the server knows what has arrived.
        since = len(tab.page.browser.told)
        await tab.evaluate("document.querySelector('.tile [role=alert] button').click()")
        await tab.until(_STATES, "Not uploaded")
        assert set(parts_sent(tab, since)) == {"3"}
        await tab.page.tab.send("Page.reload")
        await tab.until("document.querySelector('.interrupted') !== null")
        assert hostile in await tab.text()
        await block(tab, [])
        since = len(tab.page.browser.told)
        await drop(tab, large)
        await tab.until("document.querySelector('.tile') !== null")
        await tab.until(_STATES, "Uploaded")
        assert parts_sent(tab, since) == ["3"]
        await tab.click(_SUBMIT)
        await tab.until("location.pathname.startsWith('/console/jobs/job_')")
        job = ended(http, (await tab.evaluate("location.pathname")).rpartition("/")[2])
        assert job["state"] == "succeeded", job["error"]
        # A file that is on the server is not sent again.
        await tab.go("console?workload=scripted")
        await tab.until("document.querySelector('.drop') !== null")
        since = len(tab.page.browser.told)
        await drop(tab, large)
        await tab.until(_STATES, "Uploaded")
        assert parts_sent(tab, since) == []


async def test_a_server_that_is_away_is_named_and_every_text_is_translated(
    origin: str, laps: tuple[bytes, bytes]
) -> None:
    async with console_tab(origin, "/console") as tab:
        await tab.until("document.querySelector('main h3') !== null")
        await block(tab, ["*/v1/uploads*", "*/v1/jobs*"])
        await drop(tab, DroppedFile("lap_a.mp4", laps[0]), DroppedFile("lap_b.mp4", laps[1]))
        await tab.until(_STATES, "Not uploaded,Not uploaded")
        assert "server_unreachable" in await tab.evaluate("document.querySelector('.tile [role=alert]').innerText")
        await tab.until("document.querySelector('.price [role=alert] button') !== null")
        assert "With default parameters." in await tab.text()
        await block(tab, [])
        await tab.evaluate("document.querySelectorAll('.tile [role=alert] button').forEach(one => one.click())")
        await tab.until(_STATES, "Uploaded,Uploaded")
        await tab.until("document.querySelector('.price [role=status]').innerText.startsWith('With these files')")
        # The texts of the page, without those of workloads, files and commands.
        await tab.evaluate(_PSEUDO)
        await tab.until("document.querySelector('h1').innerText[0]", "[")
        await tab.evaluate("document.querySelectorAll('main details').forEach(one => one.open = true)")
        texts = await tab.evaluate(_TEXTS)
        assert len(texts) > 25
        assert [text for text in texts if not text.startswith("[")] == []


_COVER = """(made => {
  made.style.cssText = "position: fixed; inset: 0; z-index: 9";
  document.querySelector("main").append(made);
})(document.createElement("i"))"""
_PSEUDO = """import(document.querySelector('script[type=module]').src.replace(/main\\.js$/, 'preferences.js'))
  .then(({ language }) => { language.value = 'pseudo'; })"""
_TEXTS = """[...document.querySelectorAll(
    'main h1, .page-head p, .drop b, .drop label, .tile button, .tile .state, .card > h2, .price h2, .price h3, '
    + '.price > p, .price summary, form.card button, form.card > h2, '
    + 'form.card summary, label.field > span, .option .reason')]
  .map((one) => one.innerText.trim()).filter(Boolean)"""


async def test_one_video_is_asked_about_and_its_court_is_clicked(origin: str, laps: tuple[bytes, bytes]) -> None:
    async with console_tab(origin, "/console") as tab:
        await tab.until("document.querySelector('main h3') !== null")
        await drop(tab, DroppedFile("match.mp4", laps[0]))
        await tab.until(_QUESTION, "More than one workload takes these files. Which one is meant?")
        assert "Lap comparison Still missing: a video." in (await tab.text()).replace("\n", " ")
        await choose(tab, "badminton")
        await tab.until(_CHOSEN, "Badminton")
        await tab.evaluate(
            "[...document.querySelectorAll('.param button')].find(one => one.innerText.startsWith('Click')).click()"
        )
        await tab.until("document.querySelector('.points svg') !== null")
        for x, y in ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)):
            await tab.evaluate(_PRESS % (x, y))
        await tab.until("document.querySelectorAll('.mark').length", 4)
        assert await tab.violations() == []
        await tab.evaluate("document.querySelectorAll('.mark')[0].focus()")
        await tab.press("ArrowRight", "ArrowDown")
        await tab.until("new URLSearchParams(location.search).get('params')?.includes('65') ?? false")
        params = parse_qs(urlsplit(await tab.evaluate("location.href")).query)["params"][0]
        wanted = '"top_left":[65,37],"top_right":[192,36],"bottom_right":[192,108],"bottom_left":[64,108]'
        assert params == f'{{"court_keypoints":{{{wanted}}}}}'
        await tab.until("document.querySelector('.price [role=status]').innerText.startsWith('With these files')")
        # What only the server knows to be wrong is shown at the parameter, and goes when it is mended.
        await tab.go('console?workload=nerf&params={"elevations":7}')
        await tab.until(_CHOSEN, "Product photos to transparent frames")
        await tab.until("document.querySelector('.price .note.bad') !== null")
        assert await tab.evaluate("document.querySelector('.price .note.bad').innerText.length") > 0
        assert [text for text in tab.page.complaints() if "status of 422" not in text] == []


_HINT = "[...document.querySelectorAll('.param button')].find((one) => one.textContent.startsWith('%s'))"


async def test_the_object_is_clicked_on_one_of_the_photos(origin: str, tmp_path: Path) -> None:
    async with console_tab(origin, "/console", tmp_path) as tab:
        await tab.until("document.querySelector('main h3') !== null")
        await drop(tab, *(DroppedFile(f"{name}.png", picture(160, 120), "image/png") for name in ("one", "two")))
        await choose(tab, "nerf")
        await tab.until("document.querySelector('form.card') !== null")
        await tab.until(f"({_HINT % 'Click the object'}) !== undefined")
        await tab.evaluate("document.querySelectorAll('details.folded').forEach((one) => one.setAttribute('open', ''))")
        await tab.evaluate(f"({_HINT % 'Click the object'}).click()")
        await tab.until("document.querySelector('.points svg') !== null")
        await tab.evaluate(_PRESS % (0.5, 0.25))
        wanted = '{"object_hint":{"photo":"one.png","x":80,"y":30}}'
        await tab.until("new URLSearchParams(location.search).get('params')", wanted)
        await tab.evaluate(f"({_HINT % 'A box around it'}).click()")
        await tab.until("document.querySelector('.points svg') !== null")
        for x, y in ((0.75, 0.75), (0.25, 0.5)):
            await tab.evaluate(_PRESS % (x, y))
        wanted = '{"object_hint":{"photo":"one.png","box":[40,60,120,90]}}'
        await tab.until("new URLSearchParams(location.search).get('params')", wanted)
        assert await tab.violations() == []
        assert tab.page.complaints() == []


#: Press and release the pointer at shares of the picture's width and height.
_PRESS = """(([x, y]) => {
  const area = document.querySelector('.frame-area');
  const box = area.querySelector('canvas').getBoundingClientRect();
  const place = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
  const at = { ...place, bubbles: true, cancelable: true, pointerId: 1 };
  area.setPointerCapture = () => {};
  area.dispatchEvent(new PointerEvent('pointerdown', at));
  area.dispatchEvent(new PointerEvent('pointerup', at));
})([%s, %s])"""
