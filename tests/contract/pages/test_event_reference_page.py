"""The event reference at /asyncapi in Chromium: every entry, on a phone too, and nothing from elsewhere."""

from __future__ import annotations

import json

import httpx
import pytest

from contracts.asyncapi import event_types
from contracts.commands import COMMANDS
from contracts.events.base import Envelope
from tests.harness.clients.session_page_browser import SessionTab, page_tab
from tests.harness.servers.running_services import RunningServices

pytestmark = pytest.mark.anyio

_NAMES = "[...document.querySelectorAll('.entry')].filter(one => one.checkVisibility()).map(one => one.id)"
_UNFOLD = "document.querySelectorAll('.entry').forEach(one => { one.open = true; })"
_FILLED = "[...document.querySelectorAll('.entry > .inside')].every(one => one.childElementCount > 0)"
_EXAMPLES = """Object.fromEntries([...document.querySelectorAll('.entry')].filter(one => one.querySelector('pre'))
    .map(one => [one.id, JSON.parse(one.querySelector('pre').textContent)]))"""
_PHONE, _DESKTOP = (360, 780), (1280, 900)


async def _search(page: SessionTab, text: str) -> set[str]:
    box = "document.getElementById('search')"
    await page.tab.evaluate(f"{box}.value = {json.dumps(text)}; {box}.dispatchEvent(new Event('input'))")
    return set(await page.tab.evaluate(_NAMES))


@pytest.mark.share(every=2)
@pytest.mark.parametrize(("size", "scheme"), [(_PHONE, "dark"), (_DESKTOP, "light")], ids=["phone", "desktop"])
async def test_every_event_and_schema_is_shown_and_found(
    services: RunningServices, size: tuple[int, int], scheme: str
) -> None:
    async with httpx.AsyncClient(base_url=services.gateway_url, trust_env=False) as http:
        document = (await http.get("/asyncapi.json")).json()
    channels = {name for name, channel in document["channels"].items() if channel["address"]}
    schemas = {f"schema-{name}" for name in document["components"]["schemas"]}
    async with page_tab(services.gateway_url, "/asyncapi#job.succeeded", size=size, scheme=scheme) as page:
        await page.until("document.getElementById('job.succeeded')?.open ?? false")
        assert "saccade.evt.{tenant}.job.{id}.succeeded" in await page.text("job.succeeded")
        assert set(await page.tab.evaluate(_NAMES)) == channels | schemas

        found = await _search(page, "sha256")
        assert "upload.completed" in found
        assert "session.opened" not in found
        assert await _search(page, "no such word anywhere") == set()
        assert await page.text("found") == "Nothing contains all of these words."
        await _search(page, "")

        await page.tab.evaluate(_UNFOLD)
        await page.until(_FILLED)
        assert await page.tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        _check_examples(await page.tab.evaluate(_EXAMPLES))
        assert page.complaints() == []
        page.check_alone()


def _check_examples(examples: dict[str, object]) -> None:
    """Check that the example of each event, and of each command's request, can be read as that."""
    for command in COMMANDS:
        command.request.model_validate(examples[f"{command.service}.{command.verb}"])
    for name, event in event_types().items():
        envelope = Envelope.model_validate_json(json.dumps(examples[name]))
        assert envelope.type == name
        event.model_validate(envelope.data)


async def test_a_document_that_does_not_come_is_said(services: RunningServices) -> None:
    async with page_tab(services.gateway_url, "/docs") as page:
        await page.tab.send("Network.setBlockedURLs", urls=["*/asyncapi.json"])
        await page.tab.send("Page.navigate", url=f"{services.gateway_url}/asyncapi")
        await page.until(
            "document.getElementById('missing')?.innerText.includes('/asyncapi.json did not answer') ?? false"
        )
