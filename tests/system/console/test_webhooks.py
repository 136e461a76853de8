"""Page of the webhooks over real deliveries, also to a receiver that answers with hostile text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from aiohttp import web

from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.webhooks.listeners import ReceivedRequest, WebhookListener, listening

pytestmark = pytest.mark.anyio

_HOSTILE: Final = "<script>document.title='bad'</script><img src=x onerror=document.title='bad'>"
_STATES: Final = "[...document.querySelectorAll('.deliveries .state')].map(state => state.innerText)"
_ALERTS: Final = "[...document.querySelectorAll('main [role=alert]')].map(alert => alert.innerText)"


async def _refuse(_: WebhookListener, request: web.Request) -> web.StreamResponse:
    """Answer with markup; 404 is tried again later, as every failure is."""
    return web.Response(status=404, text=_HOSTILE, content_type="text/html")


def _call(origin: str, method: str, path: str, **body: Any) -> Any:
    answer = httpx.request(method, f"{origin}{path}", json=body or None, trust_env=False, timeout=60)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


def _submit(origin: str) -> None:
    _call(origin, "POST", "/v1/jobs", workload="scripted", params={"script": []})


async def _create(tab: ConsoleTab, url: str) -> str:
    """Create an endpoint by the form and return its secret, which the page shows once."""
    await tab.until_heading("Webhooks")
    await tab.click(".page-head button.primary")
    await tab.until("document.querySelector('.endpoint-form input[name=url]') !== null")
    await tab.fill("input[name=url]", url)
    await tab.fill("input[name=types]", "job.submitted")
    await tab.fill("input[name=description]", "<b>Mine</b>")
    await tab.click(".endpoint-form button.primary")
    await tab.until("document.querySelector('code.secret')?.innerText.startsWith('whsec_')")
    return str(await tab.evaluate("document.querySelector('code.secret').innerText"))


def _check_snippets(snippets: dict[str, str], request: ReceivedRequest, secret: str, folder: Path) -> None:
    """Run the code that the page shows, with a request as it came, and with one whose body was changed."""
    environment = {"PATH": os.environ["PATH"], "SACCADE_WEBHOOK_SECRET": secret}  # noqa: TID251 - of the children
    (folder / "headers.json").write_text(json.dumps(request.headers))
    (folder / "verify.py").write_text(
        snippets["python"] + "\nimport json\n"
        "assert verify(open('body', 'rb').read(), json.load(open('headers.json')))\n"
    )
    (folder / "verify.mjs").write_text(
        snippets["javascript"] + "\nimport { readFileSync as read } from 'node:fs';\n"
        "process.exit(verify(read('body'), JSON.parse(read('headers.json'))) ? 0 : 1);\n"
    )
    named = {"ID": "webhook-id", "TIMESTAMP": "webhook-timestamp", "SIGNATURE": "webhook-signature"}
    values = {name: request.headers[header] for name, header in named.items()}
    (folder / "verify.sh").write_text(snippets["shell"])
    commands = [[sys.executable, "verify.py"], ["sh", "verify.sh"]]
    commands += [["node", "verify.mjs"]] if shutil.which("node") else []
    for body, accepted in ((request.body, True), (request.body + b" ", False)):
        (folder / "body").write_bytes(body)
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, env=environment | values, capture_output=True, check=False, timeout=300
            )
            assert (done.returncode == 0) == accepted, (command, done.stdout, done.stderr)


async def test_an_endpoint_is_created_tested_and_deleted(origin: str, tmp_path: Path) -> None:
    async with listening() as listener, console_tab(origin, "/console/webhooks") as tab:
        secret = await _create(tab, listener.url)
        assert await tab.evaluate("document.querySelectorAll('main b').length") == 0
        await tab.click("section.note button:not(.plain)")
        await tab.until_heading("<b>Mine</b>")
        assert secret not in await tab.text()
        await tab.click("[data-do=test]")
        await tab.until("document.querySelector('.test-answer')?.innerText.includes('Delivered')")
        (example,) = await listener.wait(1)
        assert example.type == "webhook.test"

        # The code that the page shows accepts what came, and nothing else.
        snippets = {}
        for language in ("python", "javascript", "go", "shell"):
            await tab.go(f"{await tab.evaluate('location.pathname.slice(1)')}?snippet={language}")
            shown = f"document.querySelector('[data-snippet={language}]')?.innerText ?? ''"
            await tab.until(f"({shown}).includes('SACCADE_WEBHOOK_SECRET')")
            snippets[language] = await tab.evaluate(shown)
        _check_snippets(snippets, example, secret, tmp_path)

        # A new secret is shown once.
        await tab.evaluate(
            "[...document.querySelectorAll('.page-head button')]"
            ".find(one => one.innerText === 'Rotate the secret').click()"
        )
        await tab.until("document.querySelector('dialog[open]') !== null")
        await tab.click("dialog[open] button[value=yes]")
        await tab.until("document.querySelector('code.secret')?.innerText.startsWith('whsec_')")
        assert await tab.evaluate("document.querySelector('code.secret').innerText") != secret

        # An event is delivered, and the list says so.
        _submit(origin)
        await tab.until(f"{_STATES}[0]", "Delivered")
        assert (await listener.wait(2))[1].type == "job.submitted"
        await tab.click(".page-head button.danger")
        await tab.until("document.querySelector('dialog[open]') !== null")
        await tab.click("dialog[open] button[value=yes]")
        await tab.until_heading("Webhooks")
        assert _call(origin, "GET", "/v1/webhooks")["data"] == []
        tab.check_clean()


async def test_a_failing_receiver_is_shown_and_its_event_sent_again(origin: str) -> None:
    async with listening(respond=_refuse) as listener:
        made = _call(origin, "POST", "/v1/webhooks", url=listener.url, types=["job.submitted"])
        _submit(origin)
        async with console_tab(origin, f"/console/webhooks/{made['id']}?embed=1") as tab:
            assert await tab.evaluate("document.querySelector('.menu')") is None
            await tab.until("document.querySelector('.deliveries td:nth-child(4)')?.innerText.trim()", "404")
            # What a receiver answers is text, whatever it looks like.
            await tab.click(".deliveries .open")
            await tab.until("document.querySelector('pre.answer')?.innerText", _HOSTILE)
            assert await tab.evaluate(
                "[document.title, document.querySelectorAll('main img, main script').length]"
            ) == [
                "Webhooks · Saccade",
                0,
            ]
            # So is what was sent, byte for byte.
            await tab.click(".attempt-list summary")
            await tab.until("document.querySelector('pre.request') !== null")
            shown = str(await tab.evaluate("document.querySelector('pre.request').textContent"))
            head, _, body = shown.partition("\n\n")
            assert body.encode() == listener.got[0].body
            assert f"webhook-signature: {listener.got[0].headers['webhook-signature']}" in head.splitlines()
            assert "Byte for byte" in await tab.text()
            # A try is due, which comes by itself: sending again now would be a repeat.
            assert await tab.evaluate("document.querySelector('[data-do=redeliver]').disabled")
            assert "try is due" in await tab.text()

            # Disabled and enabled again, it is not sent any more, until somebody sends it.
            for word in ("Disable", "Enable"):
                find = f"[...document.querySelectorAll('.page-head button')].find(one => one.innerText === '{word}')"
                await tab.until(f"{find} !== undefined")
                await tab.evaluate(f"{find}.click()")
            await tab.until("document.querySelector('[data-do=redeliver]')?.disabled", False)
            assert await tab.evaluate(f"{_STATES}[0]") == "Not sent"
            before, listener.respond = len(listener.got), None
            await tab.click("[data-do=redeliver]")
            await tab.until(f"{_STATES}[0]", "Delivered")
            assert len(listener.got) == before + 1
            assert listener.got[-1].body == listener.got[0].body
            tab.check_clean()

            # An error of the API is shown with what to do, and nothing is lost.
            _call(origin, "DELETE", f"/v1/webhooks/{made['id']}")
            await tab.click("[data-do=test]")
            await tab.until(f"{_ALERTS}.some(text => text.includes('webhook_not_found'))")
