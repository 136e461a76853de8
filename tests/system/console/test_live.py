"""The page of live sessions: one is opened by a form, its newest frame is shown, and it ends."""

from __future__ import annotations

import io

import httpx
import pytest
from PIL import Image

from tests.harness.clients.console_browser import console_tab

pytestmark = pytest.mark.anyio

_PICTURE = "document.querySelector('img.thumbnail')"
#: Colour in the middle of the newest frame.
_COLOUR = f"""
(async () => {{
  const picture = {_PICTURE}, canvas = new OffscreenCanvas(1, 1), context = canvas.getContext('2d');
  await picture.decode();
  context.drawImage(picture, picture.naturalWidth / 2, picture.naturalHeight / 2, 1, 1, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}})()"""


def frame(colour: str) -> bytes:
    """Return a JPEG of one colour."""
    Image.new("RGB", (320, 200), colour).save(body := io.BytesIO(), "JPEG")
    return body.getvalue()


_TYPE_CHUNK_FRAMES = """((field) => {
  field.value = '%s';
  field.dispatchEvent(new Event('input', { bubbles: true }));
})([...document.querySelectorAll('.param')]
    .find((one) => one.innerText.startsWith('Chunk frames')).querySelector('input'))"""


async def test_a_session_is_opened_seen_and_ended(origin: str) -> None:
    async with httpx.AsyncClient(base_url=origin, trust_env=False, timeout=60) as http:
        async with console_tab(origin, "/console/live") as tab:
            await tab.until("document.querySelector('main form select') !== null")
            assert await tab.evaluate("document.querySelector('.commands pre').textContent") == "saccade sessions"
            assert "No session is running." in await tab.text()
            await tab.fill("main form select", "watching")
            await tab.until("document.querySelector('main form details') !== null")
            await tab.evaluate("document.querySelector('main form details').open = true")
            alert = "document.querySelector('main form [role=alert]')?.innerText"
            for value, fault in (("many", "Enter a number."), ("0", "At least 1."), ("1", None)):
                await tab.evaluate(_TYPE_CHUNK_FRAMES % value)
                await tab.until(alert, fault)
                await tab.until("document.querySelector('main form button.primary').disabled", fault is not None)
            assert await tab.violations() == []
            await tab.click("main form button.primary")
            await tab.until("location.pathname.startsWith('/sessions/ses_')")
            session_id = await tab.evaluate("location.pathname.split('/').at(-1)")

        async with console_tab(origin, "/console/live") as tab:
            await tab.until("document.querySelector('main article') !== null")
            for colour, wanted in (("red", 0), ("blue", 2)):
                path = f"/v1/sessions/{session_id}/frames"
                (
                    await http.post(path, content=frame(colour), headers={"Content-Type": "image/jpeg"})
                ).raise_for_status()
                await tab.until(f"{_PICTURE} !== null")
                await tab.until(f"{_COLOUR}.then(colour => colour.indexOf(Math.max(...colour)))", wanted)
            (await http.post(f"/v1/sessions/{session_id}/stop")).raise_for_status()
            await tab.until("document.querySelector('main .empty h2') !== null")
            await tab.go("console/live?show=ended")
            await tab.until("document.querySelector('main article .state')?.innerText", "Stopped")
            tab.check_clean()
