"""A session's page in Chromium without a GPU: displayed text, pixels and requests."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.harness.clients.chromium import Browser, PageReplacedError, Tab, chromium, shared_chromium

SOFTWARE = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
_SOON_S = 30.0
#: The page's own instance of its module.
_PAGE = "import(document.querySelector('script[type=module]').src)"


class SessionTab:
    """One open page."""

    def __init__(self, browser: Browser, tab: Tab, origin: str) -> None:
        self.browser, self.tab, self.origin = browser, tab, origin

    async def text(self, element: str) -> str:
        """Return an element's text; empty if it is hidden."""
        of = f"document.getElementById({json.dumps(element)})"
        found: str = await self.tab.evaluate(f"{of}.checkVisibility() ? {of}.innerText.trim() : ''")
        return found

    async def until(self, expression: str, wanted: Any = True) -> None:
        """Wait until an expression has a value."""
        got = None
        try:
            async with asyncio.timeout(_SOON_S):
                while True:
                    with contextlib.suppress(PageReplacedError):  # a link was followed meanwhile
                        if (got := await self.tab.evaluate(expression)) == wanted:
                            return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{expression} is {got!r}, not {wanted!r}; {self.complaints()}") from None

    async def until_text(self, element: str, wanted: str) -> None:
        """Wait until an element has a text."""
        await self.until(f"document.getElementById({json.dumps(element)}).innerText.trim()", wanted)

    async def click(self, selector: str) -> None:
        """Click a button with the mouse."""
        of = f"document.querySelector({json.dumps(selector)})"
        await self.tab.evaluate(f"{of}.scrollIntoView({{block: 'center'}})")
        where = await self.tab.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({of}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            await self.tab.send(
                "Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1
            )  # fmt: skip

    async def in_scene(self, expression: str) -> Any:
        """Evaluate with the page's ``scene`` in scope."""
        return await self.tab.evaluate(f"{_PAGE}.then(({{ scene }}) => {expression})")

    async def picture(self) -> Image.Image:
        """Return a screenshot."""
        taken = await self.tab.send("Page.captureScreenshot", format="png")
        return Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")

    async def colours_at(self, places: Iterable[Sequence[float]]) -> list[tuple[int, int, int]]:
        """Return the colours on the screen at positions in the world (m), by the page's own camera."""
        wanted = json.dumps([list(place) for place in places])
        await self.tab.evaluate("document.getElementById('canvas').scrollIntoView({ block: 'nearest' })")
        points = await self.in_scene(
            f"(box => {wanted}.map(place => scene.project(place)).map(([x, y]) => [x + box.x, y + box.y]))"
            "(scene.canvas.getBoundingClientRect())"
        )
        picture = await self.picture()
        return [picture.getpixel((round(x), round(y))) for x, y in points]  # type: ignore[misc]

    def requests(self) -> list[str]:
        """Return the URLs of all the page's requests."""
        sent = ("Network.requestWillBeSent", "Network.webSocketCreated")
        told = [said["params"] for said in self.browser.told if said["method"] in sent]
        return [params["request"]["url"] if "request" in params else params["url"] for params in told]

    def complaints(self) -> list[str]:
        """Return console errors, uncaught exceptions and violations of the content security policy."""
        found = []
        for said in self.browser.told:
            params = said["params"]
            if said["method"] == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                found.append(str(details.get("exception", {}).get("description") or details["text"]))
            elif said["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
                found.append(str([one.get("value", one.get("description")) for one in params["args"]]))
            elif said["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
            elif said["method"] == "Audits.issueAdded" and params["issue"]["code"] == "ContentSecurityPolicyIssue":
                found.append(str(params["issue"]["details"]))
        return found

    def check_alone(self) -> None:
        """Check that all requests went to this server."""
        hosts = (self.origin, self.origin.replace("http:", "ws:"), "blob:", "data:")
        assert [url for url in self.requests() if not url.startswith(hosts)] == []


@contextlib.asynccontextmanager
async def session_tab(
    origin: str, session_id: str, *flags: str, size: tuple[int, int] = (1000, 700), scheme: str = "light"
) -> AsyncIterator[SessionTab]:
    """Open a session's page in a Chromium."""
    async with page_tab(origin, f"/sessions/{session_id}", None, *flags, size=size, scheme=scheme) as page:
        yield page


@contextlib.asynccontextmanager
async def page_tab(
    origin: str,
    path: str,
    folder: Path | None = None,
    *flags: str,
    size: tuple[int, int] = (1000, 700),
    scheme: str = "light",
) -> AsyncIterator[SessionTab]:
    """Open a page of a server in a new Chromium with its profile in ``folder``, or in the shared one."""
    flags = ("--lang=en-US", *SOFTWARE, *flags)
    async with chromium(folder / "profile", *flags) if folder else shared_chromium(*flags) as browser:
        tab = await browser.new_tab()
        for domain in ("Runtime", "Log", "Network", "Page", "Audits"):
            await tab.send(f"{domain}.enable")
        width, height = size
        await tab.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await tab.send("Emulation.setEmulatedMedia", features=features)
        await tab.send("Page.navigate", url=f"{origin}{path}")
        page = SessionTab(browser, tab, origin)
        await page.until("document.readyState + location.protocol", "completehttp:")
        yield page
