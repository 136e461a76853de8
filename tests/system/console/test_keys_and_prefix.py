"""The console of a server with API keys, served by a reverse proxy under a path of its own."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.audit import SYSTEM
from tests.harness.clients.chromium import PageReplacedError, Tab, pages
from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.clients.console_start import DroppedFile, block, drop
from tests.harness.network.prefix_proxy import prefix_proxy
from tests.harness.servers.embedded import free_port
from tests.harness.servers.gateway import video
from tests.system.embedded import up

pytestmark = pytest.mark.anyio

PREFIX = "/some/prefix/"
KEYS = {"reader": ["read"], "operator": ["read", "write", "operate"]}
#: Key of who operates all tenants, and is none.
SYSTEM_KEY = "system"
#: Port of the page of another system, which may show the webhooks in a frame.
EMBEDDER_PORT = free_port()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a system that needs keys and knows the path of its proxy."""
    folder = tmp_path_factory.mktemp("keyed")
    entries = [
        {"id": name, "sha256": hashlib.sha256(b"secret").hexdigest(), "tenant": "one", "scopes": scopes}
        for name, scopes in KEYS.items()
    ]
    everywhere = {"id": SYSTEM_KEY, "tenant": SYSTEM, "scopes": ["operate"]}
    entries.append(everywhere | {"sha256": hashlib.sha256(b"secret").hexdigest()})
    (folder / "keys.json").write_text(json.dumps(entries))
    with up(
        folder / "data",
        WORKER_CATALOG="tests.workers,tests.session_workers",
        SACCADE_API_KEYS_FILE=str(folder / "keys.json"),
        GATEWAY_PUBLIC_PATH=PREFIX,
        GATEWAY_EMBED_ORIGINS=f"http://localhost:{EMBEDDER_PORT}",
    ) as system:
        yield str(system.ready()["url"])


async def test_a_key_is_asked_for_kept_nowhere_and_its_scopes_are_heeded(keyed: str, tmp_path: Path) -> None:
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console/keys", tmp_path) as tab,
    ):
        await tab.until_heading("This server requires an API key")
        await block(tab, ["*/v1/browser-session*"])
        await tab.fill("main input[name=key]", "reader.wrong")
        await tab.click("main form .primary")
        await tab.until("document.querySelector('main [role=alert]') !== null")
        assert "does not accept this key" not in await tab.text(), "it was not asked"
        assert await tab.evaluate("document.querySelector('main input[name=key]').value") == "reader.wrong"
        await block(tab, [])
        await tab.press("Tab")
        await tab.click("main form .primary")
        await tab.until("document.querySelector('main [role=alert]') !== null")
        assert "unauthenticated" in await tab.text()

        await tab.fill("main input[name=key]", "reader.secret")
        await tab.click("main form .primary")
        await tab.until_heading("Keys")
        text = await tab.text()
        assert "reader" in text
        assert "operate:" not in text
        kept = "document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + location.href"
        assert "secret" not in await tab.evaluate(kept)
        menu = await tab.evaluate("[...document.querySelectorAll('.menu li a')].map(link => link.pathname)")
        assert f"{PREFIX}console/operate" not in menu
        assert all(path.startswith(f"{PREFIX}console") for path in menu)
        await tab.go(f"{origin}{PREFIX}console/live")
        await tab.until_heading("Live")
        assert "lacks the scope write" in await tab.text()
        await tab.until("document.querySelector('.light.open') !== null")
        await tab.go(f"{origin}{PREFIX}console?workload=scripted")
        await tab.until("document.querySelector('form.card button.primary')?.disabled ?? false")
        await tab.until(
            "document.querySelector('.price [role=status]').innerText.startsWith('With default parameters.')"
        )
        assert "may only read" in await tab.text()
        await tab.go(f"{origin}{PREFIX}console/live")
        await tab.until_heading("Live")

        await tab.evaluate("[...document.querySelectorAll('.bar button')].at(-1).click()")
        await tab.until_heading("This server requires an API key")
        await tab.fill("main input[name=key]", "operator.secret")
        await tab.click("main form .primary")
        await tab.until_heading("Live")
        await tab.go(f"{origin}{PREFIX}console/operate/audit")
        await tab.until("document.querySelector('main .note.good') !== null")
        refused = [line for line in tab.page.complaints() if "401" not in line]
        assert refused == []
        tab.page.check_alone()


async def test_a_key_without_events_is_told_so_and_asks_once(keyed: str, tmp_path: Path) -> None:
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console/live", tmp_path) as tab,
    ):
        await tab.until_heading("This server requires an API key")
        await tab.fill("main input[name=key]", f"{SYSTEM_KEY}.secret")
        await tab.click("main form .primary")
        asked = "performance.getEntriesByType('resource').filter(({ name }) => name.includes('/v1/events')).length"
        await tab.until(asked, 1)
        await tab.until("document.querySelector('.menu .link').innerText", "No event stream")
        # The first pause before another request is half a second.
        await asyncio.sleep(2)
        assert await tab.evaluate(asked) == 1


async def test_a_dropped_file_becomes_a_job_with_a_cookie_and_under_a_path(keyed: str, tmp_path: Path) -> None:
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console?workload=scripted", tmp_path) as tab,
    ):
        await tab.until_heading("This server requires an API key")
        await tab.fill("main input[name=key]", "operator.secret")
        await tab.click("main form .primary")
        await tab.until_heading("Start")
        await drop(tab, DroppedFile("clip.mp4", video()))
        await tab.until("document.querySelector('.tile .state')?.innerText ?? ''", "Uploaded")
        await tab.click("form.card button.primary")
        await tab.until(f"location.pathname.startsWith('{PREFIX}console/jobs/job_')")
        await tab.until("document.querySelector('main').innerText.includes('Succeeded')")
        assert [line for line in tab.page.complaints() if "401" not in line] == []


async def log_in(tab: ConsoleTab, key: str) -> None:
    await tab.until_heading("This server requires an API key")
    await tab.fill("main input[name=key]", f"{key}.secret")
    await tab.click("main form .primary")
    await tab.until("document.querySelector('main input[name=key]') === null")


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_references_work_under_a_path(keyed: str, tmp_path: Path, slash: str) -> None:
    async with prefix_proxy(keyed, PREFIX) as origin, console_tab(origin, f"{PREFIX}docs{slash}", tmp_path) as tab:
        await tab.until("document.querySelectorAll('.opblock').length > 50")
        assert await tab.evaluate("document.getElementById('missing').hidden"), "a document did not answer"
        # The requests that are sent from the page begin with the path.
        assert await tab.evaluate("document.querySelector('.servers option').value") == PREFIX.rstrip("/")
        links = "[...document.querySelectorAll('.info a')].map(link => link.pathname)"
        assert set(await tab.evaluate(links)) == {
            f"{PREFIX}{name}" for name in ("openapi.json", "v1/webhooks/openapi.json", "asyncapi.json", "asyncapi",
                                           "v1/workloads")
        }  # fmt: skip
        tab.check_clean()
        await tab.page.tab.send("Page.navigate", url=f"{origin}{PREFIX}asyncapi{slash}")
        await tab.until("document.querySelectorAll('.entry').length > 50")
        assert await tab.evaluate("document.querySelector('.links a').pathname") == f"{PREFIX}asyncapi.json"
        await tab.evaluate("document.querySelectorAll('.links a')[1].click()")
        await tab.until("location.pathname", f"{PREFIX}docs")
        tab.check_clean()


def post(keyed: str, path: str, **body: object) -> dict[str, Any]:
    """Send a request with the operator's key and return the answer."""
    headers = {"Authorization": "Bearer operator.secret"}
    answer = httpx.post(f"{keyed}{path}", json=body, headers=headers, trust_env=False, timeout=60)
    assert answer.is_success, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_live_session_works_under_a_path(keyed: str, tmp_path: Path) -> None:
    session_id = post(keyed, "/v1/sessions", workload="watching")["id"]
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console/live", tmp_path) as tab,
    ):
        await log_in(tab, "operator")
        await tab.until("document.querySelector('main article a.button') !== null")
        await tab.evaluate("document.querySelector('main article a.button').click()")
        await tab.until("location.pathname", f"{PREFIX}sessions/{session_id}")
        await tab.until("document.getElementById('link')?.className", "link open")
        await tab.until("document.getElementById('stop')?.disabled", False)
        await tab.click("#stop")
        await tab.until("document.getElementById('confirm').open")
        await tab.click("#confirm-yes")
        await tab.until("document.getElementById('state').innerText.toLowerCase().startsWith('stopped')")
        assert [line for line in tab.page.complaints() if "401" not in line] == []


async def test_a_page_among_the_files_of_a_job_is_shown_under_a_path(keyed: str, tmp_path: Path) -> None:
    steps = ["stage first", "write report.html text/html <!doctype_html><title>A</title><p>report</p>"]
    job_id = post(keyed, "/v1/jobs", workload="scripted", params={"script": steps})["id"]
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console/jobs/{job_id}", tmp_path) as tab,
    ):
        await log_in(tab, "operator")
        await tab.until("document.querySelector('iframe.view') !== null")
        path = f"{PREFIX}v1/jobs/{job_id}/artifacts/report.html"
        shown = "fetch(%s).then(answer => answer.text().then(text => [new URL(answer.url).pathname, text].join(' ')))"
        found = await tab.evaluate(shown % json.dumps(path))
        assert found.startswith(f"{PREFIX}v1/jobs/{job_id}/pages/"), found
        assert "<p>report</p>" in found


def portal_path(keyed: str, key: str, **wanted: object) -> str:
    """Create a link to the webhooks and return its address."""
    answer = httpx.post(
        f"{keyed}/v1/portal-links", json=wanted, headers={"Authorization": f"Bearer {key}.secret"}, trust_env=False
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["path"])


async def framed(tab: ConsoleTab, address: str) -> None:
    """Show an address in a frame of the page."""
    frame = (
        f"Object.assign(document.createElement('iframe'), {{ src: {json.dumps(address)}, width: 900, height: 700 }})"
    )
    await tab.evaluate(f"document.body.replaceChildren({frame})")


async def in_frame(tab: ConsoleTab, expression: str) -> object:
    """Evaluate in the document of the page's frame, which has a process of its own; None while there is none."""
    targets = (await tab.page.browser.send("Target.getTargets", {}))["targetInfos"]
    for target in targets:
        if target["type"] == "iframe":
            wanted = {"targetId": target["targetId"], "flatten": True}
            attached = await tab.page.browser.send("Target.attachToTarget", wanted)
            with contextlib.suppress(PageReplacedError):
                return await Tab(tab.page.browser, attached["sessionId"]).evaluate(expression)
    return None


async def until_frame_says(tab: ConsoleTab, wanted: str) -> None:
    """Wait until the frame's heading is so."""
    end, found = time.monotonic() + 30, None
    while found != wanted:
        assert time.monotonic() < end, f"the frame says {found!r}, not {wanted!r}"
        found = await in_frame(tab, "document.querySelector('h1')?.innerText ?? null")
        await asyncio.sleep(0.05)


async def test_the_webhooks_are_shown_in_the_page_of_another_site_by_a_link_alone(keyed: str, tmp_path: Path) -> None:
    link = portal_path(keyed, "operator", access="write")
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        pages({}, EMBEDDER_PORT),
        console_tab(f"http://localhost:{EMBEDDER_PORT}", "/", tmp_path) as tab,
    ):
        await framed(tab, f"{origin}{link}")
        await until_frame_says(tab, "Webhooks")
        assert await in_frame(tab, "location.hash") == ""
        assert await in_frame(tab, "document.querySelector('.menu, .bar')") is None
        assert await in_frame(tab, "document.querySelector('main button.primary').disabled") is False
        # No page but the webhooks, nobody else's address of them, and no login.
        await in_frame(
            tab, f"history.pushState(null, '', '{PREFIX}console/jobs?embed=1'); dispatchEvent(new Event('popstate'))"
        )
        await until_frame_says(tab, "There is no page at this address.")
        await framed(tab, f"{origin}{PREFIX}console/webhooks?embed=1")
        await until_frame_says(tab, "This link has ended")
        await framed(tab, f"{origin}{link[:-1]}{'0' if link[-1] != '0' else '1'}")
        await until_frame_says(tab, "This link has ended")
        for refused in (f"{PREFIX}console/jobs?embed=1", f"{PREFIX}console/webhooks"):
            tab.page.browser.told.clear()
            await framed(tab, f"{origin}{refused}")
            while not any("frame-ancestors" in text for text in tab.page.complaints()):
                await asyncio.sleep(0.05)
