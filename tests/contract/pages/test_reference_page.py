"""The API reference at /docs in Chromium: the whole OpenAPI, on a phone too, and nothing from elsewhere."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.harness.clients.session_page_browser import SessionTab, page_tab
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.servers.running_services import RunningServices

pytestmark = pytest.mark.anyio

_ROUTES = """[...document.querySelectorAll('.opblock-summary')].filter(row => row.checkVisibility()).map(row =>
    row.querySelector('.opblock-summary-method').innerText.trim().toLowerCase() + ' '
    + row.querySelector('.opblock-summary-path, .opblock-summary-path__deprecated').innerText
    .replaceAll('\\u200b', '').trim())"""
#: Names of the fields that an asterisk is drawn after.
_MARKED = """[...document.querySelectorAll('.json-schema-2020-12-property--required')].map(field =>
    field.querySelector('.json-schema-2020-12__title')).filter(title =>
    getComputedStyle(title, '::after').content === '"*"').map(title => title.innerText)"""
_PHONE, _DESKTOP = (360, 780), (1280, 900)


def _operations(document: dict[str, dict[str, dict[str, object]]]) -> set[str]:
    # HEAD has no line of its own: it is answered wherever GET is.
    return {f"{method} {path}" for path, methods in document["paths"].items() for method in methods if method != "head"}


async def _unfold(page: SessionTab, path: str) -> str:
    """Unfold the route of POST ``path`` and return its text."""
    row = f"[...document.querySelectorAll('.opblock-post')].find(row => row.innerText.includes({json.dumps(path)}))"
    await page.tab.evaluate(f"{row}.querySelector('.opblock-summary-control').click()")
    await page.until(f"{row}.querySelector('.responses-wrapper') !== null")
    text: str = await page.tab.evaluate(f"{row}.innerText")
    return text


@pytest.mark.share(every=2)
@pytest.mark.parametrize("size", [_PHONE, _DESKTOP], ids=["phone", "desktop"])
async def test_every_route_of_both_services_is_shown(
    services: RunningServices, front: BreakingProxy, size: tuple[int, int]
) -> None:
    async with httpx.AsyncClient(base_url=front.url, trust_env=False, timeout=60) as http:
        documents = [(await http.get(path)).json() for path in ("/openapi.json", "/v1/webhooks/openapi.json")]
    wanted = {operation for document in documents for operation in _operations(document)}
    # The notifier's own health and metrics are not reached through the origin.
    assert {"post /v1/sessions", "post /upload-frame", "get /v1/events", "post /v1/webhooks"} <= wanted
    async with page_tab(front.url, "/docs", size=size) as page:
        await page.until("document.querySelectorAll('.opblock-summary').length > 0")
        assert set(await page.tab.evaluate(_ROUTES)) == wanted
        assert await page.tab.evaluate("document.getElementById('missing').checkVisibility()") is False
        submit = await _unfold(page, "/v1/jobs\n")
        assert "workload" in await page.tab.evaluate(_MARKED), "what is required is marked"
        for written in ("`", "#/components", "$ref"):
            assert written not in submit
        assert await page.tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.complaints() == []
        page.check_alone()


async def test_what_does_not_answer_is_said(services: RunningServices) -> None:
    """On the gateway's own port there is no notifier."""
    async with page_tab(services.gateway_url, "/docs") as page:
        await page.until("document.querySelectorAll('.opblock-summary').length > 0")
        assert "post /v1/jobs" in await page.tab.evaluate(_ROUTES)
        assert "/v1/webhooks/openapi.json did not answer" in await page.text("missing")
