"""The console's main flow in Firefox and WebKit, run by hand: no test needs these browsers.

    apt-get install firefox-esr webkit2gtk-driver xvfb
    python -m tests.system.console.other_browsers firefox webkit --pictures /tmp/pictures

Two short laps are dropped on the Start page, the job is submitted with a click and followed to its report, then every
page is opened. What a page complains of and what does not come within a minute is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from tests.harness.clients.console_start import DroppedFile
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.vision.short_laps import render_short_laps
from tests.system.embedded import up

_PATIENCE_S = 240.0
_PAGES = ("", "jobs", "live", "events", "webhooks", "operate", "keys")
_WEBKIT = Path("/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser")
_COLLECT = """
window.complaints = [];
for (const kind of ['error', 'unhandledrejection', 'securitypolicyviolation'])
  addEventListener(kind, ({ message, reason, violatedDirective }) =>
    window.complaints.push(kind + ': ' + (message ?? reason?.stack ?? violatedDirective)));
"""


class OtherBrowser(Protocol):
    """A browser with one tab."""

    async def open(self, url: str) -> None:
        """Load a page."""

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript whose value is JSON; a promise is awaited."""

    async def click(self, selector: str) -> None:
        """Click an element with the mouse."""

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the page."""

    async def picture(self) -> bytes:
        """Return a screenshot as PNG."""


class Firefox:
    """Firefox over WebDriver BiDi."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tab = ""

    async def read(self) -> None:
        """Receive answers until the browser ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if waiting := self._waiting.pop(said.get("id") or 0, None):
                waiting.set_result(said)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._count += 1
        waiting = self._waiting[self._count] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        async with asyncio.timeout(90):
            answer = await waiting
        if answer["type"] == "error":
            raise RuntimeError(answer)
        result: dict[str, Any] = answer["result"]
        return result

    async def begin(self) -> None:
        """Start a session and take its first tab."""
        await self.send("session.new", capabilities={})
        self._tab = (await self.send("browsingContext.getTree"))["contexts"][0]["context"]

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.send("browsingContext.navigate", context=self._tab, url=url, wait="complete")

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript whose value is JSON; a promise is awaited."""
        code = f"(async () => JSON.stringify(await ({expression})) ?? 'null')()"
        target = {"context": self._tab}
        found = await self.send("script.evaluate", expression=code, target=target, awaitPromise=True)
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    async def click(self, selector: str) -> None:
        """Click an element with the mouse."""
        x, y = await self.evaluate(_MIDDLE % json.dumps(selector))
        moves = [
            {"type": "pointerMove", "x": round(x), "y": round(y)},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        actions = [{"type": "pointer", "id": "mouse", "actions": moves}]
        await self.send("input.performActions", context=self._tab, actions=actions)

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the page."""
        viewport = {"width": width, "height": height}
        await self.send("browsingContext.setViewport", context=self._tab, viewport=viewport)

    async def picture(self) -> bytes:
        """Return a screenshot as PNG."""
        return base64.b64decode((await self.send("browsingContext.captureScreenshot", context=self._tab))["data"])


class WebKit:
    """WebKitGTK over WebDriver."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a command and return its value."""
        async with asyncio.timeout(90), self._http.request(method, f"{self._url}{path}", json=body) as answer:
            value = (await answer.json())["value"]
        if answer.status != 200:
            raise RuntimeError(value)
        return value

    async def begin(self) -> None:
        """Start a session."""
        options = {"binary": str(_WEBKIT), "args": ["--automation"]}
        wanted = {"capabilities": {"alwaysMatch": {"webkitgtk:browserOptions": options}}}
        session = (await self.send("POST", "/session", wanted))["sessionId"]
        self._url += f"/session/{session}"
        await self.send("POST", "/timeouts", {"script": 60_000})

    async def end(self) -> None:
        """End the session."""
        await self.send("DELETE", "")

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.send("POST", "/url", {"url": url})

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript whose value is JSON; a promise is awaited."""
        code = (
            f"const done = arguments[0]; Promise.resolve({expression}).then((v) => done(JSON.stringify(v) ?? 'null'))"
        )
        return json.loads(await self.send("POST", "/execute/async", {"script": code, "args": []}))

    async def click(self, selector: str) -> None:
        """Click an element with the mouse."""
        found = await self.send("POST", "/element", {"using": "css selector", "value": selector})
        await self.send("POST", f"/element/{next(iter(found.values()))}/click", {})

    async def resize(self, width: int, height: int) -> None:
        """Set the size of the window."""
        await self.send("POST", "/window/rect", {"width": width, "height": height})

    async def picture(self) -> bytes:
        """Return a screenshot as PNG."""
        return base64.b64decode(await self.send("GET", "/screenshot"))


_MIDDLE = """(() => {
  const element = document.querySelector(%s);
  element.scrollIntoView({block: 'center'});
  const { x, y, width, height } = element.getBoundingClientRect();
  return [x + width / 2, y + height / 2];
})()"""


@contextlib.asynccontextmanager
async def _process(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    env = {"PATH": "/usr/bin:/bin", "MOZ_DISABLE_CONTENT_SANDBOX": "1", "LANG": "C.UTF-8", **environment}
    process = await asyncio.create_subprocess_exec(
        *command,
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        # The others' children would keep the pipe open, and with it the wait for their end.
        stderr=asyncio.subprocess.PIPE if command[0].startswith("firefox") else asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[Firefox]:
    """Start Firefox without a window."""
    command = ("firefox-esr", "--headless", "--remote-debugging-port=0", "--profile", str(folder), "--no-remote")
    async with _process(*command, HOME=str(folder)) as process, aiohttp.ClientSession() as session:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while not (found := re.search(rb"ws://[\d.:]+", await process.stderr.readline())):
                pass
        draining = asyncio.ensure_future(_drain(process.stderr))
        async with session.ws_connect(f"{found[0].decode()}/session", max_msg_size=0) as socket:
            browser = Firefox(socket)
            reading = asyncio.ensure_future(browser.read())
            await browser.begin()
            yield browser
            reading.cancel()
        draining.cancel()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


@contextlib.asynccontextmanager
async def webkit(folder: Path) -> AsyncIterator[WebKit]:
    """Start WebKitGTK's small browser on a screen of its own."""
    port, screen = free_port(), ":97"
    async with (
        _process("Xvfb", screen, "-screen", "0", "1400x1000x24"),
        _process("WebKitWebDriver", f"--port={port}", DISPLAY=screen, HOME=str(folder), GDK_BACKEND="x11"),
        aiohttp.ClientSession() as session,
    ):
        browser = WebKit(session, f"http://{HOST}:{port}")
        for attempt in range(40):
            try:
                await browser.begin()
                break
            except aiohttp.ClientConnectionError:
                if attempt == 39:
                    raise
                await asyncio.sleep(0.25)
        try:
            yield browser
        finally:
            await browser.end()


class Flow:
    """The main flow, step by step; what goes wrong is noted."""

    def __init__(self, name: str, browser: OtherBrowser, origin: str, pictures: Path | None) -> None:
        self._name, self._browser, self._origin, self._pictures = name, browser, origin, pictures
        self.faults: list[str] = []

    async def until(self, what: str, expression: str, patience_s: float = 60.0) -> bool:
        """Wait until an expression is true; note where it never is."""
        end = asyncio.get_running_loop().time() + patience_s
        while asyncio.get_running_loop().time() < end:
            if await self._browser.evaluate(f"Boolean({expression})"):
                print(f"{self._name}: {what}", flush=True)
                return True
            await asyncio.sleep(0.2)
        shown = await self._browser.evaluate("document.querySelector('main')?.innerText.slice(0, 400)")
        self.faults.append(f"never: {what}: {shown}")
        return False

    async def look(self, name: str) -> None:
        """Take a picture, and note what the page has complained of."""
        self.faults += [f"{name}: {one}" for one in await self._browser.evaluate("window.complaints ?? []")]
        if self._pictures:
            (self._pictures / f"{self._name}-{name}.png").write_bytes(await self._browser.picture())

    async def open(self, path: str) -> None:
        """Load a page of the console, and collect its complaints from then on."""
        await self._browser.open(f"{self._origin}{path}")
        await self._browser.evaluate(f"(() => {{ {_COLLECT} }})()")

    async def first_job(self, videos: list[DroppedFile]) -> None:
        """Drop two videos, submit, and look at the result."""
        await self.open("/console")
        await self.until("the start page is shown", "document.querySelector('main h3')")
        made = ", ".join(video.expression() for video in videos)
        await self._browser.evaluate(_DROP % made)
        await self.until("the workload is chosen", "document.querySelector('.option.chosen')")
        await self.until(
            "both files have pictures", "document.querySelectorAll('.tile canvas:not([hidden])').length === 2"
        )
        await self.until("the files are uploaded", "document.querySelectorAll('.tile .state.good').length === 2")
        await self.look("start")
        await self._browser.click("form.card button.primary")
        await self.until("the job's page is shown", "location.pathname.startsWith('/console/jobs/job_')")
        await self.until(
            "the job has succeeded",
            "document.querySelector('[data-field=state]')?.dataset.value === 'succeeded'",
            _PATIENCE_S,
        )
        await self.until("the report is framed", "document.querySelector('iframe.view')")
        await self.until("the timeline is drawn", "document.querySelector('.chart svg')")
        await asyncio.sleep(3)
        await self.look("job")
        await self._browser.evaluate("document.querySelector('.slider button').click()")
        await self.until("the slider shows an earlier point", "new URLSearchParams(location.search).has('at')")
        await self._browser.evaluate(_OPEN_VIDEO)
        await self.until("a video of the result plays", "document.querySelector('video.view')?.readyState >= 1")
        await self._browser.evaluate(
            "document.querySelector('video.view') && (document.querySelector('video.view').currentTime = 5)"
        )
        await self.until(
            "it is sought",
            "document.querySelector('video.view')?.currentTime === 5 && !document.querySelector('video.view').seeking",
        )
        await self._browser.resize(360, 780)
        await self.until("the timeline is vertical on a phone", "document.querySelector('.steps')")
        await self.look("job-phone")
        await self._browser.resize(1280, 900)

    async def pages(self) -> None:
        """Open every page."""
        for page in _PAGES:
            await self.open(f"/console/{page}".rstrip("/"))
            await self.until(f"{page or 'start'} is shown", "document.querySelector('main h1')")
            if page in ("jobs", "live", "events"):
                await self.until("events arrive live", "document.querySelector('.light.open')")
            await self.look(page or "overview")


_DROP = """(() => {
  const dataTransfer = new DataTransfer();
  for (const file of [%s]) dataTransfer.items.add(file);
  const dropped = new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true });
  document.querySelector("main").dispatchEvent(dropped);
})()"""
_OPEN_VIDEO = """(() => {
  const url = new URL(location.href);
  url.search = '?file=overlay.mp4';
  const link = Object.assign(document.createElement('a'), { href: url.href });
  document.body.append(link);
  link.click();
  link.remove();
})()"""


async def run(names: list[str], pictures: Path | None) -> None:
    """Run the flow in each browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder = Path(made)
        laps = [DroppedFile(path.name, path.read_bytes()) for path in render_short_laps(folder)]
        with up(folder / "data") as system:
            for name in names:
                profile = folder / name
                profile.mkdir()
                async with {"firefox": firefox, "webkit": webkit}[name](profile) as browser:
                    await browser.resize(1280, 900)
                    flow = Flow(name, browser, str(system.ready()["url"]), pictures)
                    await flow.first_job(laps)
                    await flow.pages()
                    print(f"{name}: faults: {json.dumps(flow.faults, indent=1)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browsers", nargs="+", choices=("firefox", "webkit"))
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    asyncio.run(run(given.browsers, given.pictures))
