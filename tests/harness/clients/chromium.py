"""A headless Chromium, controlled over its DevTools protocol, and a server for its pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

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

    async def open(self, url: str) -> Tab:
        """Open a page and wait until it is loaded."""
        target = await self.send("Target.createTarget", {"url": "about:blank"})
        attached = await self.send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
        tab = Tab(self, attached["sessionId"])
        navigated = await self.send("Page.navigate", {"url": url}, attached["sessionId"])
        assert "errorText" not in navigated, navigated
        async with asyncio.timeout(20):
            while await tab.evaluate("document.readyState + location.protocol") not in (
                "completehttp:",
                "completefile:",
            ):
                await asyncio.sleep(0.02)
        return tab


@contextlib.asynccontextmanager
async def chromium(folder: Path, *flags: str) -> AsyncIterator[Browser]:
    """Start a Chromium with a profile in ``folder`` and extra flags; skip the test if none is installed."""
    program = find_browser()
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--no-proxy-server", "--disable-extensions", "--disable-background-networking", "--mute-audio"]
    # Several tabs are at work at once, and none of them is looked at.
    command += ["--disable-background-timer-throttling", "--disable-renderer-backgrounding"]
    command += ["--disable-backgrounding-occluded-windows"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", *flags, "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
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
            yield browser
            with contextlib.suppress(asyncio.TimeoutError, ConnectionError, AssertionError):
                async with asyncio.timeout(5):
                    await browser.send("Browser.close", {})
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
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
