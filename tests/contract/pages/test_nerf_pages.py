"""The exhibit's pages in Chromium, opened from disk as a user does: no server, nothing loaded, nothing refused."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.report.job import run
from tests.harness.clients.chromium import Browser, Tab, chromium
from tests.harness.clients.session_page_browser import SOFTWARE
from tests.harness.vision.stage_context import FolderContext
from tests.harness.vision.stage_outputs import open_the_circle, write_everything

pytestmark = pytest.mark.anyio

PARAMS = NerfParams(frames=24, elevations=2, frame_size_px=64)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("exhibit")
    write_everything(home, PARAMS)
    run(PARAMS, FolderContext(home, name="exhibit"))
    return home / "saved"


@asynccontextmanager
async def opened(path: Path, folder: Path) -> AsyncIterator[tuple[Tab, Browser]]:
    """Open a page from disk, and see at the end that nothing in it was refused or failed."""
    async with chromium(folder / "profile", *SOFTWARE) as browser:
        tab = await browser.open(path.as_uri())
        await tab.send("Log.enable")
        await tab.send("Runtime.enable")
        await tab.send("Network.enable")
        yield tab, browser
        wrong = [one for one in browser.told if one["method"] == "Runtime.exceptionThrown" or _is_error(one)]
        assert wrong == []
        asked = [
            one["params"]["request"]["url"] for one in browser.told if one["method"] == "Network.requestWillBeSent"
        ]
        assert [url for url in asked if not url.startswith(("blob:", "data:"))] == []


def _is_error(said: dict[str, Any]) -> bool:
    return bool(said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error")


async def until(tab: Tab, condition: str) -> None:
    async with asyncio.timeout(60):
        while not await tab.evaluate(condition):
            await asyncio.sleep(0.05)


async def shown(tab: Tab) -> dict[str, float]:
    data = await tab.evaluate("({...document.getElementById('canvas').dataset})")
    return {name: float(value) for name, value in data.items() if name != "engine"}


async def pixels(tab: Tab) -> np.ndarray:
    taken = await tab.send("Page.captureScreenshot", format="png")
    with Image.open(io.BytesIO(base64.b64decode(taken["data"]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


async def drag(tab: Tab, dx: int, dy: int, steps: int = 6) -> None:
    """Drag from the middle of the canvas and hold still before letting go."""
    box = await tab.evaluate(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])(canvas.getBoundingClientRect())"
    )
    await tab.send("Input.dispatchMouseEvent", type="mousePressed", x=box[0], y=box[1], button="left", clickCount=1)
    for step in range(1, steps + 1):
        place = {"x": box[0] + dx * step / steps, "y": box[1] + dy * step / steps}
        await tab.send("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **place)
    await asyncio.sleep(0.2)
    await tab.send("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **place)


async def press(tab: Tab, key: str) -> None:
    await tab.send("Input.dispatchKeyEvent", type="keyDown", key=key)
    await tab.send("Input.dispatchKeyEvent", type="keyUp", key=key)


async def test_the_object_turns_by_itself_by_hand_and_by_keys(pages: Path, tmp_path: Path) -> None:
    async with opened(pages / "spin.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.frame !== undefined")
        begun = (await shown(tab))["azimuth"]
        await until(tab, f"Number(canvas.dataset.azimuth) !== {begun}")
        await tab.evaluate("document.getElementById('play').click()")
        await asyncio.sleep(0.3)
        before = await shown(tab)
        await drag(tab, -120, 0)
        await until(tab, f"Number(canvas.dataset.azimuth) !== {before['azimuth']}")
        after = await shown(tab)
        assert 0 < (after["azimuth"] - before["azimuth"]) % 360 < 180, "to the left is forward"
        assert after["elevation"] == before["elevation"]
        await drag(tab, 0, 300 if before["elevation"] == 15 else -300)
        await until(tab, f"Number(canvas.dataset.elevation) !== {before['elevation']}")
        await tab.evaluate("document.getElementById('canvas').focus()")
        turned = (await shown(tab))["azimuth"]
        await press(tab, "ArrowRight")
        await until(tab, f"Number(canvas.dataset.azimuth) === {(turned + 30) % 360}")
        zoom = (await shown(tab))["zoom"]
        await press(tab, "+")
        await until(tab, f"Number(canvas.dataset.zoom) > {zoom * 1.15}")
        await press(tab, "0")
        await until(tab, f"Number(canvas.dataset.zoom) < {zoom * 1.01}")


async def test_what_is_clear_shows_the_background_that_is_chosen(pages: Path, tmp_path: Path) -> None:
    async with opened(pages / "spin.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.frame !== undefined")
        await tab.evaluate("document.getElementById('play').click()")
        pictures = {}
        for back in ("white", "black"):
            await tab.evaluate(f"document.querySelector('[data-back={back}]').click()")
            async with asyncio.timeout(20):
                while back not in pictures or abs(pictures[back][8:20, 8:20].mean() - 255 * (back == "white")) > 5:
                    await asyncio.sleep(0.2)
                    box = await tab.evaluate(
                        "(({x, y, width, height}) => [x, y, width, height])(canvas.getBoundingClientRect())"
                    )
                    x, y, width, height = (round(value) for value in box)
                    pictures[back] = (await pixels(tab))[y : y + height, x : x + width]
        corner = (slice(8, 20), slice(8, 20))
        assert pictures["white"][corner].mean() > 250
        assert pictures["black"][corner].mean() < 5
        apart = np.abs(pictures["white"] - pictures["black"]).mean(2)
        assert 0.03 < (apart < 8).mean() < 0.9, "the object itself is the same before both"


async def test_a_finger_that_lets_go_in_motion_leaves_it_turning(pages: Path, tmp_path: Path) -> None:
    async with opened(pages / "spin.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.frame !== undefined")
        code = """(() => {
            const box = canvas.getBoundingClientRect();
            const at = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {
                pointerId: 1, pointerType: "touch", isPrimary: true, bubbles: true,
                clientX: box.x + x, clientY: box.y + box.height / 2 }));
            canvas.setPointerCapture = () => {};
            at("pointerdown", 300);
            for (const x of [260, 220, 180, 140]) at("pointermove", x);
            at("pointerup", 140);
            return Number(canvas.dataset.azimuth);
        })()"""
        released = await tab.evaluate(code)
        await until(tab, f"Number(canvas.dataset.azimuth) !== {released}")
        moved = (await shown(tab))["azimuth"]
        await until(tab, f"Number(canvas.dataset.azimuth) !== {moved}")
        assert await tab.evaluate("document.getElementById('play').getAttribute('aria-pressed')") == "false"


async def test_the_model_is_drawn_from_its_own_page(pages: Path, tmp_path: Path) -> None:
    async with opened(pages / "splat.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.splats === '300' && Number(canvas.dataset.drawn) > 2")
        red = green = 0
        async with asyncio.timeout(20):  # the screen shows it some time after it is drawn
            while not (red > 150 and green < 90):
                await asyncio.sleep(0.2)
                box = await tab.evaluate(
                    "(({x, y, width, height}) => [x + width / 2, y + height / 2])(canvas.getBoundingClientRect())"
                )
                red, green, _ = (await pixels(tab))[round(box[1]), round(box[0])]
        drawn = (await shown(tab))["drawn"]
        await tab.evaluate("document.querySelectorAll('[data-back]')[2].click()")
        await until(tab, f"Number(canvas.dataset.drawn) > {drawn}")


async def test_the_report_is_read_without_scripts(pages: Path, tmp_path: Path) -> None:
    async with opened(pages / "report.html", tmp_path) as (tab, _):
        assert await tab.evaluate("document.scripts.length") == 0
        assert await tab.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert await tab.evaluate(wide)
        await tab.send("Emulation.setDeviceMetricsOverride", width=380, height=800, deviceScaleFactor=1, mobile=True)
        assert await tab.evaluate(wide), "nothing is cut off on a telephone"


async def test_a_side_without_photos_is_not_turned_to(tmp_path: Path) -> None:
    write_everything(tmp_path, PARAMS)
    open_the_circle(tmp_path, PARAMS)
    run(PARAMS, FolderContext(tmp_path, name="exhibit"))
    async with opened(tmp_path / "saved" / "spin.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.frame !== undefined")
        await tab.evaluate("document.getElementById('play').click()")
        await tab.evaluate("document.getElementById('canvas').focus()")
        for _ in range(14):
            await press(tab, "ArrowRight")
        await until(tab, "Number(canvas.dataset.azimuth) === 185")
        hand = await tab.evaluate("document.getElementById('hand').getAttribute('transform')")
        assert hand == "rotate(-185)"
        for _ in range(14):
            await press(tab, "ArrowLeft")
        await until(tab, "Number(canvas.dataset.azimuth) === 355")


async def test_a_frame_of_a_side_without_photos_says_so(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"orbit": "full"})
    write_everything(tmp_path, params)
    open_the_circle(tmp_path, params, full=True)
    run(params, FolderContext(tmp_path, name="exhibit"))
    async with opened(tmp_path / "saved" / "spin.html", tmp_path) as (tab, _):
        await until(tab, "canvas.dataset.frame !== undefined")
        await tab.evaluate("document.getElementById('play').click()")
        await tab.evaluate("document.getElementById('canvas').focus()")
        for key in ("0", *["ArrowRight"] * 8):  # from 30 degrees
            await press(tab, key)
        await until(tab, "document.getElementById('where').textContent.includes('nearest photo 90° away, 13 % of it')")
