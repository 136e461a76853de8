"""The badminton page's own Convex client, from npm, in Node: calls functions, follows queries, uploads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.clients.node import PACKAGES, find_node, installed_packages

_WAIT_S = 45.0


class ConvexError(Exception):
    """A function of the backend failed."""


class ConvexPage:
    """One client, with one connection."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        #: By query: every value and error that it had.
        self.seen: dict[str, list[Any]] = {}
        self._arrived = asyncio.Condition()
        self._asked = 0

    async def read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            told = json.loads(line)
            async with self._arrived:
                if "query" in told:
                    self.seen.setdefault(told["query"], []).append(told.get("value", told.get("error")))
                elif "error" in told:
                    self._answers.pop(told["id"]).set_exception(ConvexError(told["error"]))
                else:
                    self._answers.pop(told["id"]).set_result(told["result"])
                self._arrived.notify_all()
        for answer in self._answers.values():
            answer.set_exception(ConvexError("the client has ended"))

    async def ask(self, command: str, **given: Any) -> Any:
        assert self._process.stdin
        self._asked += 1
        number = self._asked
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "command": command, **given}).encode() + b"\n")
        async with asyncio.timeout(_WAIT_S):
            return await answer

    async def mutation(self, name: str, **args: Any) -> Any:
        return await self.ask("mutation", name=f"videos:{name}", args=args)

    async def action(self, name: str, **args: Any) -> Any:
        return await self.ask("action", name=f"videos:{name}", args=args)

    async def follow(self, name: str, **args: Any) -> str:
        """Follow a query from now on, and return its name in ``seen``."""
        await self.ask("follow", name=f"videos:{name}", args=args, **{"as": name})
        return name

    async def upload(self, url: str, path: Path, content_type: str = "video/mp4") -> dict[str, Any]:
        found: dict[str, Any] = await self.ask("upload", url=url, path=str(path), type=content_type)
        return found

    async def until(self, query: str, true: Callable[[Any], bool]) -> Any:
        """Wait until the newest value of a query satisfies a condition, and return it."""
        async with asyncio.timeout(_WAIT_S), self._arrived:
            await self._arrived.wait_for(lambda: bool(self.seen.get(query)) and true(self.seen[query][-1]))
            return self.seen[query][-1]


@asynccontextmanager
async def convex_page(base: str) -> AsyncIterator[ConvexPage]:
    """Run a client of the backend at a base URL, or skip the test."""
    folder = PACKAGES / "convex"
    packages = installed_packages(folder)
    process = await asyncio.create_subprocess_exec(
        find_node(),
        str(folder / "page.mjs"),
        str(packages),
        base,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    page = ConvexPage(process)
    reading = asyncio.ensure_future(page.read())
    try:
        yield page
    finally:
        reading.cancel()
        if process.returncode is None:
            process.kill()
        await process.wait()
