"""Requests of a page in Chromium that a test holds back, refuses or answers itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from kit.tasks import end
from tests.harness.clients.console_browser import ConsoleTab

_FAIL = "ConnectionReset"


@dataclass
class Requests:
    """What to do with requests; ``rules`` are [pattern of "METHOD URL", what], the first that matches counts."""

    tab: ConsoleTab
    rules: list[tuple[str, str | int | tuple[str, bytes]]] = field(default_factory=list)
    #: Requests that are held back, by "METHOD URL".
    held: list[tuple[str, str]] = field(default_factory=list)
    #: Headers of each request that was seen, by "METHOD URL".
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def hold(self, pattern: str) -> None:
        """Hold back what matches until it is let go."""
        self.rules.insert(0, (pattern, "hold"))

    def refuse(self, pattern: str, status: int = 0) -> None:
        """Answer with a status; 0: the connection breaks."""
        self.rules.insert(0, (pattern, status))

    def answer(self, pattern: str, media_type: str, body: bytes) -> None:
        """Answer with 200 and a body in place of the server."""
        self.rules.insert(0, (pattern, (media_type, body)))

    async def let_go(self, pattern: str) -> None:
        """Let pass what matches, also what was held back."""
        self.rules.insert(0, (pattern, "pass"))
        held, self.held = self.held, []
        for name, request_id in held:
            if fnmatch(name, pattern):
                await self._send("Fetch.continueRequest", requestId=request_id)
            else:
                self.held.append((name, request_id))

    async def take(self, request_id: str, request: dict[str, Any]) -> None:
        """Do with a request what the rules say."""
        name = f"{request['method']} {request['url']}"
        self.seen.append((name, request["headers"]))
        act = next((act for pattern, act in self.rules if fnmatch(name, pattern)), "pass")
        if act == "hold":
            self.held.append((name, request_id))
        elif act == "pass":
            await self._send("Fetch.continueRequest", requestId=request_id)
        elif act == 0:
            await self._send("Fetch.failRequest", requestId=request_id, errorReason=_FAIL)
        else:
            status, media_type, body = (200, *act) if isinstance(act, tuple) else (int(act), *_problem(int(act)))
            headers = [{"name": "Content-Type", "value": media_type}]
            text = base64.b64encode(body).decode()
            await self._send(
                "Fetch.fulfillRequest", requestId=request_id, responseCode=status, responseHeaders=headers, body=text
            )

    async def _send(self, method: str, **params: Any) -> None:
        # A request that the page has given up meanwhile is unknown.
        with contextlib.suppress(AssertionError):
            await self.tab.page.tab.send(method, **params)


def _problem(status: int) -> tuple[str, bytes]:
    problem = {"type": "about:blank", "title": "Broken", "status": status, "code": "broken", "detail": "Broken."}
    return "application/problem+json", json.dumps(problem).encode()


@contextlib.asynccontextmanager
async def requests_of(tab: ConsoleTab, *patterns: str, stage: str = "Request") -> AsyncIterator[Requests]:
    """Stop each request whose URL matches one of the patterns, and ask the rules what to do with it.

    ``stage`` "Response": after the server has answered, so that what is held back is an old answer.
    """
    requests = Requests(tab)
    told = tab.page.browser.told
    at = len(told)

    async def attend() -> None:
        nonlocal at
        while True:
            while at < len(told):
                said = told[at]
                at += 1
                if said["method"] == "Fetch.requestPaused":
                    await requests.take(said["params"]["requestId"], said["params"]["request"])
            await asyncio.sleep(0.02)

    await tab.page.tab.send(
        "Fetch.enable", patterns=[{"urlPattern": pattern, "requestStage": stage} for pattern in patterns]
    )
    attending = asyncio.ensure_future(attend())
    try:
        yield requests
    finally:
        await end(attending)
        await tab.page.tab.send("Fetch.disable")
