"""The operators' page: a failed job becomes a dead letter, is handled again with a reason, and the audit log has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.system.embedded import run

pytestmark = pytest.mark.anyio

_ROWS = "document.querySelectorAll('main tbody tr').length"
_MARKUP = "<img/src=x/onerror=alert(1)>"


def submit(http: httpx.Client, *script: str, **more: Any) -> str:
    """Submit a scripted job and wait for its end."""
    body = {"workload": "scripted", "params": {"script": list(script)}, **more}
    job = http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"}).raise_for_status().json()
    return str(http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"}).json()["id"])


async def confirm(tab: ConsoleTab, why: str) -> None:
    """Enter a reason in the open dialog and confirm it by the keyboard."""
    await tab.until("document.querySelector('main dialog')?.open ?? false")
    assert await tab.evaluate("document.querySelector('main dialog button[value=yes]').disabled")
    await tab.fill("main dialog input", why)
    await tab.until("document.querySelector('main dialog button[value=yes]').disabled", False)
    await tab.evaluate("document.querySelector('main dialog input').focus()")
    await tab.press("Enter")
    await tab.until("document.querySelector('main dialog') === null")


async def test_a_dead_letter_is_seen_handled_again_and_audited(origin: str) -> None:
    with httpx.Client(base_url=origin, trust_env=False, timeout=90) as http:
        jobs = [submit(http, f"fail {_MARKUP}") for _ in range(2)]
    async with console_tab(origin, "/console/operate") as tab:
        await tab.until(f"{_ROWS} >= 2")
        text = await tab.text()
        assert _MARKUP in text, "markup of others is shown as text"
        assert jobs[0] in text
        row = f"[...document.querySelectorAll('tbody tr')].find(row => row.innerText.includes('{jobs[0]}'))"
        await tab.evaluate(f"{row}.querySelector('a').click()")
        await tab.until("document.querySelector('main .primary') !== null")
        await tab.click("main .primary")
        await confirm(tab, "the console's test")
        await tab.until("document.querySelector('main').innerText.includes(\"the console's test\")")

        await tab.go("console/operate/audit?verb=retry")
        await tab.go("console/operate/audit")
        await tab.until("document.querySelector('main').innerText.includes(\"the console's test\")")
        assert "each follows the one before it" in await tab.text()

        await tab.go("console/operate/health")
        await tab.until("document.querySelectorAll('main .state.good').length >= 4")
        assert await tab.evaluate("window.alert.name") == "alert"
        tab.check_clean()


async def test_all_letters_that_match_are_set_aside_by_a_plan(origin: str) -> None:
    with httpx.Client(base_url=origin, trust_env=False, timeout=90) as http:
        for _ in range(3):
            submit(http, "fail one_of_three")
        async with console_tab(origin, "/console/operate?error=one_of_three", size=PHONE, scheme="dark") as tab:
            await tab.until(f"{_ROWS} >= 3")
            assert await tab.width_px() <= PHONE[0]
            await tab.click("main .danger")
            await tab.until("document.querySelector('main dialog')?.open ?? false")
            await tab.click("main dialog button[value=no]")
            await tab.until("document.querySelector('main dialog') === null")
            assert await tab.evaluate(_ROWS) >= 3
            await tab.click("main .danger")
            await confirm(tab, "not needed")
            await tab.until("document.querySelector('main .note.good')?.innerText.startsWith('3 of 3') ?? false")
            await tab.until("document.querySelector('main .empty') !== null")
            tab.check_clean()
        found = http.get("/v1/dead-letters", params={"error": "one_of_three", "every_state": True}).json()
        assert {letter["state"] for letter in found["data"]} == {"discarded"}


async def test_a_replay_is_planned_and_ended(origin: str) -> None:
    with httpx.Client(base_url=origin, trust_env=False, timeout=90) as http:
        job = submit(http, "sleep 0")
        async with console_tab(origin, f"/console/operate/replays?into=sse&since=3600&subjects={job}") as tab:
            await tab.until("document.querySelector('main form .primary') !== null")
            await tab.click("main form .primary")
            await tab.until("location.pathname.startsWith('/console/operate/replays/rpl_')")
            await tab.until("document.querySelector('main .chip')?.innerText", "Planned")
            replay = http.get(f"/v1/replays/{await tab.evaluate('location.pathname.split(`/`).at(-1)')}").json()
            assert f"send {replay['plan']['count']} events" in await tab.text()
            await tab.click("main .danger")
            await confirm(tab, "only a test")
            await tab.until("document.querySelector('main .chip')?.innerText", "Ended early")
            await tab.go("console/operate/replays?into=nowhere&since=3600")
            await tab.until("document.querySelector('main form input[name=into]').value", "nowhere")
            await tab.click("main form .primary")
            await tab.until("document.querySelector('main form [role=alert]') !== null")
            assert "whk_" in await tab.text()
        assert http.get(f"/v1/replays/{replay['id']}").json()["state"] == "cancelled"


async def test_limits_are_set_and_removed_and_spending_is_summed_up(origin: str, tmp_path: Path) -> None:
    with httpx.Client(base_url=origin, trust_env=False, timeout=90) as http:
        submit(http, "sleep 0")
        async with console_tab(origin, "/console/operate/spend") as tab:
            http.put("/v1/budgets", json={"monthly_usd": 9, "warn_share": 0.5}).raise_for_status()
            await tab.page.tab.send("Page.reload")
            await tab.until("document.querySelector('main form input[name=monthly]')?.value", "9")
            await tab.fill("input[name=daily]", "2.5")
            await tab.click("main form .primary")
            await tab.until("document.querySelectorAll('main progress').length", 2)
            made = http.get("/v1/budgets").json()
            assert (made["daily_usd"], made["monthly_usd"], made["warn_share"]) == (2.5, 9, 0.5)
            await tab.click("main form button[type=button]")
            await tab.until("document.querySelector('main progress') === null")
            assert http.get("/v1/budgets").json()["daily_usd"] is None
            await tab.go("console/operate/spend?by=workload")
            # Other tests' workloads are there too, the dearest first.
            names = "[...document.querySelectorAll('main tbody tr td:first-child')].map(one => one.innerText)"
            await tab.until(f"{names}.includes('scripted')")
            tab.check_clean()
    told = run("budget", "spent", "--by", "device", "--url", origin, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "cpu" in told.stdout
    rows = json.loads(run("budget", "spent", "--url", origin, "--json", cwd=tmp_path).stdout)["data"]
    assert "scripted" in {row["workload"] for row in rows}  # and those of other tests
    assert all(row["attempts"] > 0 and row["usd"] == 0 for row in rows)
