"""Every page of the console in light and dark: axe-core finds nothing serious, and nothing protrudes on a phone."""

from __future__ import annotations

import pytest

from tests.harness.clients.console_browser import PHONE, console_tab

pytestmark = pytest.mark.anyio

PAGES = [
    "start",
    "jobs",
    "keys",
    "events",
    "webhooks",
    "webhooks?new=1",
    "live",
    "operate/deadletters",
    "operate/replays",
    "operate/spend",
    "operate/audit",
    "operate/streams",
    "operate/health",
]


@pytest.mark.share(every=2)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious_on_any_page(origin: str, scheme: str) -> None:
    async with console_tab(origin, "/console/keys", scheme=scheme) as tab:
        found = {}
        for name in PAGES:
            await tab.go("console" if name == "start" else f"console/{name}")
            await tab.until("document.querySelector('main h1') !== null")
            await tab.until("document.querySelector('main [role=status]') === null")
            if violations := await tab.violations():
                found[name] = violations
        assert found == {}


async def test_no_page_is_wider_than_a_phone(origin: str) -> None:
    async with console_tab(origin, "/console/keys", size=PHONE) as tab:
        for name in PAGES:
            await tab.go("console" if name == "start" else f"console/{name}")
            await tab.until("document.querySelector('main h1') !== null")
            assert await tab.width_px() <= PHONE[0], name
