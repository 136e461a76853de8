"""The console's pure modules in Chromium, without a server of Saccade: their exports, called with JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.harness.clients.chromium import Tab, chromium, pages
from tests.harness.servers.embedded import ROOT

FOLDER = ROOT / "services" / "gateway" / "console"


class ConsoleModules:
    """A page that can import the console's modules."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab

    async def call(self, module: str, function: str, *given: Any) -> Any:
        """Call JavaScript with a module's exports and values; ``function`` is an arrow function of both."""
        values = ", ".join(json.dumps(value) for value in given)
        return await self._tab.evaluate(
            f"import('/console/{module}').then((module) => ({function})(module{', ' if values else ''}{values}))"
        )


@contextlib.asynccontextmanager
async def console_modules(folder: Path) -> AsyncIterator[ConsoleModules]:
    """Open an empty page beside the console's files; ``folder`` is for the browser's profile."""
    async with pages({"console": FOLDER}) as origin, chromium(folder / "profile") as browser:
        yield ConsoleModules(await browser.open(origin))
