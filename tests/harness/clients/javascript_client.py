"""Calls of saccade.js through tests/clients_js/use.js, in Node and in a page in Chromium."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.harness.clients.chromium import chromium, find_browser, pages
from tests.harness.clients.node import MODULE, PACKAGES, in_node

#: Runs a use of the client and gives what it gives.
Run = Callable[..., Awaitable[Any]]


async def use(name: str, *given: object) -> Any:
    """Run a call in Node."""
    return (await in_node({"it": [name, *given]}, packages=False))["it"]


@contextlib.asynccontextmanager
async def page(origin: str, folder: Path, **folders: Path) -> AsyncIterator[Run]:
    """Open a page that runs calls."""
    find_browser()
    served = {"clients": MODULE.parent, "tests": PACKAGES, **folders}
    async with pages(served, int(origin.rpartition(":")[2])), chromium(folder / "profile") as browser:
        tab = await browser.open(origin)

        async def use_in_page(name: str, *given: object) -> Any:
            wanted = json.dumps({"it": [name, *given]})
            return (await tab.evaluate(f"import('/tests/in_page.js').then(page => page.run({wanted}))"))["it"]

        yield use_in_page
