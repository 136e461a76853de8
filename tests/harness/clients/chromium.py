"""A headless Chromium, controlled over its DevTools protocol, and a server for its pages.

Tests that need a profile of their own start a Chromium; others take a context of one that their test process shares:
cookies and storage are the context's own, and a start takes half a second of CPU time. A context blocks cookies of
third parties, as a private window does.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kit.tasks import end
from tests.harness.servers.embedded import HOST, free_port

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PAGE = "<!doctype html><meta charset=utf-8><title>test</title>"


def find_browser() -> str:
    """Return the path of a Chromium, or skip the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium is installed")
    return found


class PageReplacedError(AssertionError):
    """The page was replaced by another one while a command was executed."""


class Tab:
    """One page."""

    def __init__(self, browser: Browser, session_id: str) -> None:
        self._browser = browser
        self._session_id = session_id

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the page and return its result."""
        return await self._browser.send(method, params, self._session_id)

    async def evaluate(self, expression: str, timeout_s: float = 60.0) -> Any:
        """Evaluate JavaScript, await a promise, and return the value."""
        params = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        async with asyncio.timeout(timeout_s):
            answer = await self._browser.send("Runtime.evaluate", params, self._session_id)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise AssertionError(thrown.get("exception", {}).get("description") or thrown.get("text"))
        return answer["result"].get("value")


class Browser:
    """A running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._context: dict[str, str] = {}
        self._count = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        #: What it told unasked, in the domains that a test has enabled.
        self.told: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Receive answers until the browser ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "method" in said:
                self.told.append(said)
            waiting = self._waiting.pop(said.get("id", 0), None)
            if waiting and not waiting.done():
                waiting.set_result(said)

    async def send(self, method: str, params: Mapping[str, Any], session_id: str | None = None) -> dict[str, Any]:
        """Send a command and return its result."""
        self._count += 1
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[self._count] = waiting
        command = {"id": self._count, "method": method, "params": params}
        await self._socket.send_json(command | ({"sessionId": session_id} if session_id else {}))
        answer = await waiting
        if answer.get("error", {}).get("message") == "Inspected target navigated or closed":
            raise PageReplacedError(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def use_new_context(self) -> None:
        """Open all pages from now on in a context of their own, which ends with the connection."""
        context = await self.send("Target.createBrowserContext", {"disposeOnDetach": True})
        self._context = {"browserContextId": context["browserContextId"]}

    async def new_tab(self) -> Tab:
        """Open an empty page."""
        target = await self.send("Target.createTarget", {"url": "about:blank"} | self._context)
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        return Tab(self, attached["sessionId"])

    async def open(self, url: str) -> Tab:
        """Open a page and wait until it is loaded."""
        tab = await self.new_tab()
        navigated = await tab.send("Page.navigate", url=url)
        assert "errorText" not in navigated, navigated
        async with asyncio.timeout(20):
            while await tab.evaluate("document.readyState + location.protocol") not in (
                "completehttp:",
                "completefile:",
            ):
                await asyncio.sleep(0.02)
        return tab


def _start(folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    program = find_browser()
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--no-proxy-server", "--disable-extensions", "--disable-background-networking", "--mute-audio"]
    # Several tabs are at work at once, and none of them is looked at.
    command += ["--disable-background-timer-throttling", "--disable-renderer-backgrounding"]
    command += ["--disable-backgrounding-occluded-windows"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", *flags, "about:blank"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


@contextlib.asynccontextmanager
async def _connected(folder: Path, process: subprocess.Popen[bytes]) -> AsyncIterator[Browser]:
    """Connect to a Chromium, as soon as it has started."""
    told = folder / "DevToolsActivePort"
    async with asyncio.timeout(60):
        while not (told.exists() and len(lines := told.read_text().split("\n")) >= 2):
            assert process.poll() is None, f"chromium ended with {process.returncode}"
            await asyncio.sleep(0.05)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://{HOST}:{lines[0]}{lines[1]}", max_msg_size=0) as socket,
    ):
        browser = Browser(socket)
        reading = asyncio.ensure_future(browser.read())
        try:
            yield browser
        finally:
            await end(reading)


class _SharedChromium:
    """A Chromium with some flags, and how many tests use it now."""

    def __init__(self, *flags: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chromium-"))
        self.process = _start(self.folder, *flags)
        self.users = 0

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its children would write into the folder again
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


#: By flags. One that no test uses ends when another one starts: it keeps much memory.
_shared: dict[tuple[str, ...], _SharedChromium] = {}


def end_shared() -> None:
    """End the Chromiums of this process that no test uses."""
    for flags in [flags for flags, one in _shared.items() if not one.users]:
        _shared.pop(flags).end()


atexit.register(end_shared)


@contextlib.asynccontextmanager
async def shared_chromium(*flags: str) -> AsyncIterator[Browser]:
    """Take a context of this process's Chromium with these flags; skip the test if none is installed."""
    find_browser()
    if flags not in _shared or _shared[flags].process.poll() is not None:
        end_shared()
        _shared[flags] = _SharedChromium(*flags)
    shared = _shared[flags]
    shared.users += 1
    try:
        async with _connected(shared.folder, shared.process) as browser:
            await browser.use_new_context()
            yield browser
    finally:
        shared.users -= 1


@contextlib.asynccontextmanager
async def chromium(folder: Path, *flags: str) -> AsyncIterator[Browser]:
    """Start a Chromium with a profile in ``folder`` and extra flags; skip the test if none is installed."""
    process = _start(folder, *flags)
    try:
        async with _connected(folder, process) as browser:
            yield browser
            with contextlib.suppress(asyncio.TimeoutError, ConnectionError, AssertionError):
                async with asyncio.timeout(5):
                    await browser.send("Browser.close", {})
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, 10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=30)


@contextlib.asynccontextmanager
async def pages(folders: Mapping[str, Path], port: int | None = None) -> AsyncIterator[str]:
    """Serve an empty page at ``/`` and folders of modules under their names; yield the origin."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def module(request: web.Request) -> web.Response:
        folder = folders[request.match_info["folder"]].resolve()
        path = (folder / request.match_info["path"]).resolve()
        # Some packages import without a file name's ending, as bundlers allow.
        path = path if path.is_file() else path.with_name(path.name + ".js")
        if not path.is_relative_to(folder) or not path.is_file():
            return web.Response(status=404)
        return web.Response(body=path.read_bytes(), content_type="text/javascript", charset="utf-8")

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/{folder}/{path:.*}", module)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = port or free_port()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield f"http://{HOST}:{port}"
    finally:
        await runner.cleanup()
