"""The console of a server with API keys, served by a reverse proxy under a path of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.clients.console_browser import console_tab
from tests.harness.clients.console_start import DroppedFile, drop
from tests.harness.network.prefix_proxy import prefix_proxy
from tests.harness.servers.gateway import video
from tests.system.embedded import up

pytestmark = pytest.mark.anyio

PREFIX = "/some/prefix/"
KEYS = {"reader": ["read"], "operator": ["read", "write", "operate"]}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a system that needs keys and knows the path of its proxy."""
    folder = tmp_path_factory.mktemp("keyed")
    entries = [
        {"id": name, "sha256": hashlib.sha256(b"secret").hexdigest(), "tenant": "one", "scopes": scopes}
        for name, scopes in KEYS.items()
    ]
    (folder / "keys.json").write_text(json.dumps(entries))
    with up(
        folder / "data",
        WORKER_CATALOG="tests.workers",
        SACCADE_API_KEYS_FILE=str(folder / "keys.json"),
        GATEWAY_PUBLIC_PATH=PREFIX,
    ) as system:
        yield str(system.ready()["url"])


async def test_a_key_is_asked_for_kept_nowhere_and_its_scopes_are_heeded(keyed: str, tmp_path: Path) -> None:
    async with (
        prefix_proxy(keyed, PREFIX) as origin,
        console_tab(origin, f"{PREFIX}console/keys", tmp_path) as tab,
    ):
        await tab.until_heading("This server requires an API key")
        await tab.fill("main input[name=key]", "reader.wrong")
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
