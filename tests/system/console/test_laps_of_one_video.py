"""One video of several laps in Chromium: its laps are found, two of them are chosen, and their comparison is ready."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.harness.clients.console_browser import console_tab
from tests.harness.clients.console_start import DroppedFile, drop
from tests.harness.servers.embedded import ROOT

pytestmark = pytest.mark.anyio

_CHOSEN = "document.querySelector('.option.chosen b')?.innerText ?? ''"
_OPTIONS = "[...document.querySelectorAll('.options input[name]')].map(one => one.value)"
_STATE = "document.querySelector('[data-field=state]')?.dataset.value"
_LINK = "section[aria-label='Compare two of these laps'] a.button"
_CHECKED = "[...document.querySelectorAll('input[type=radio]:checked')].map(one => one.ariaLabel).join()"


def job_of(origin: str, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{origin}/v1/jobs/{job_id}", trust_env=False, timeout=60).json()
    return found


async def test_two_laps_of_one_video_are_found_chosen_and_compared(origin: str, tmp_path: Path) -> None:
    path = tmp_path / "session.mp4"
    generator = [sys.executable, "-m", "tests.harness.vision.lap_sessions", str(path), "3.3", "4"]
    subprocess.run(generator, check=True, timeout=120, cwd=ROOT)
    video = path.read_bytes()
    params = quote(json.dumps({"min_lap_s": 5}))
    async with console_tab(origin, f"/console?workload=lap_detection&params={params}", tmp_path) as tab:
        await tab.until(_CHOSEN, "Lap detection")
        await drop(tab, DroppedFile("session.mp4", video))
        await tab.until("document.querySelector('.price [role=status]')?.innerText.startsWith('With these files')")
        await tab.click("form.card button.primary")
        await tab.until("location.pathname.startsWith('/console/jobs/job_')")
        await tab.until(_STATE, "succeeded")
        await tab.until(f"document.querySelector({json.dumps(_LINK)}) !== null")
        assert "3 laps found" in await tab.text()
        job = job_of(origin, (await tab.evaluate("location.pathname")).rpartition("/")[2])
        laps = job["result"]["laps"]
        assert len(laps) == 3
        assert await tab.evaluate(_CHECKED) == "Lap A: row 1,Lap B: row 2"
        # The same lap twice is no comparison.
        await tab.click("input[aria-label='Lap A: row 2']")
        await tab.until(f"document.querySelector({json.dumps(_LINK)}) === null")
        await tab.click("input[aria-label='Lap B: row 3']")
        await tab.click(_LINK)
        await tab.until(_CHOSEN, "Lap comparison")
        await tab.until(
            "[...document.querySelectorAll('.tile .name')].map(one => one.innerText).join()", "session.mp4,session.mp4"
        )
        await tab.until("document.querySelector('.price [role=status]')?.innerText.startsWith('With these files')")
        body = json.loads(
            await tab.evaluate(
                "[...document.querySelectorAll('.commands pre')].at(-1).textContent.match(/-d '(.*)'/s)[1]"
            )
        )
        upload_id = job["inputs"]["video"][0]["upload_id"]
        assert body["inputs"] == {"reference": upload_id, "other": upload_id}
        assert body["params"]["segments"] == {
            name: {"start_s": lap["start_s"], "end_s": lap["end_s"]}
            for name, lap in (("reference", laps[1]), ("other", laps[2]))
        }
        checked = httpx.post(f"{origin}/v1/jobs?dry_run=true", json=body, trust_env=False, timeout=60).json()
        assert not checked.get("errors"), checked
        assert await tab.violations() == []
        assert tab.page.complaints() == []
