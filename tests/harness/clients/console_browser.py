"""The console in Chromium: opens a page, waits for it, and checks its accessibility with axe-core."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.harness.clients.node import installed_packages
from tests.harness.clients.session_page_browser import SessionTab, page_tab

DESKTOP, PHONE = (1280, 900), (360, 780)
_HEADING = "document.querySelector('main h1')?.innerText ?? ''"


class ConsoleTab:
    """One tab with the console."""

    def __init__(self, page: SessionTab) -> None:
        """Wrap an open page."""
        self.page = page

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        return await self.page.tab.evaluate(expression)

    async def until(self, expression: str, wanted: Any = True) -> None:
        """Wait until an expression has a value."""
        await self.page.until(expression, wanted)

    async def open_tab(self, path: str) -> ConsoleTab:
        """Open a further tab of the same browser; what it complains of is in the first one's complaints too."""
        tab = await self.page.browser.open(f"{self.page.origin}{path}")
        for domain in ("Runtime", "Log", "Network", "Page", "Audits"):
            await tab.send(f"{domain}.enable")
        return ConsoleTab(SessionTab(self.page.browser, tab, self.page.origin))

    async def go(self, address: str) -> None:
        """Follow a link of the console, such as ``console/jobs``, without loading the page again."""
        link = f"Object.assign(document.createElement('a'), {{href: {json.dumps(address)}}})"
        await self.evaluate(f"(link => {{ document.body.append(link); link.click(); link.remove(); }})({link})")

    async def heading(self) -> str:
        """Return the page's heading."""
        found: str = await self.evaluate(_HEADING)
        return found

    async def until_heading(self, wanted: str) -> None:
        """Wait until the page has a heading."""
        await self.until(_HEADING, wanted)

    async def text(self) -> str:
        """Return the text of the page's content, without the frame around it."""
        found: str = await self.evaluate("document.querySelector('main').innerText")
        return found

    async def click(self, selector: str) -> None:
        """Click an element with the mouse."""
        await self.page.click(selector)

    async def fill(self, selector: str, value: str) -> None:
        """Replace a field's value as typing does."""
        field = f"document.querySelector({json.dumps(selector)})"
        told = "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}));"
        await self.evaluate(f"(field => {{ field.value = {json.dumps(value)}; {told} }})({field})")

    async def press(self, *keys: str) -> None:
        """Press keys one after another; a key is a character or a name such as ``Enter``."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
            await self.page.tab.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            await self.page.tab.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def violations(self) -> list[str]:
        """Return what axe-core finds serious or critical in the page as it is shown."""
        source = (installed_packages() / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
        # Without the page's policy for scripts, which rightly refuses text that becomes code.
        await self.page.tab.evaluate(f"{source}; 0")
        found = await self.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{one['id']} ({one['impact']}): {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]

    async def width_px(self) -> int:
        """Return the width of the document, which is larger than the window's where something protrudes."""
        found: int = await self.evaluate("document.documentElement.scrollWidth")
        return found

    def check_clean(self) -> None:
        """Check that the page complained of nothing and sent no request to another origin."""
        assert self.page.complaints() == [], self.page.complaints()
        self.page.check_alone()


@contextlib.asynccontextmanager
async def console_tab(
    origin: str,
    path: str,
    folder: Path | None = None,
    *flags: str,
    size: tuple[int, int] = DESKTOP,
    scheme: str = "light",
) -> AsyncIterator[ConsoleTab]:
    """Open a page of the console in English, in a new Chromium with its profile in ``folder`` or in the shared one."""
    async with page_tab(origin, path, folder, *flags, size=size, scheme=scheme) as page:
        yield ConsoleTab(page)
