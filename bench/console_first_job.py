"""Time from ``saccade up`` to the result of a first job, with nothing but a mouse.

    python -m bench.console_first_job --runs 3

Two laps are rendered first, as a driver has them before Saccade is started. Then, in a folder that does not exist yet,
``saccade up`` starts; the address that it prints is opened in a new Chromium; both files are dragged onto the page;
nothing is chosen; the button is clicked as soon as it can be; and the run ends when the job's page shows its report.
Drops and clicks are the browser's own input, as of a person who needs no time to think. ``--lap-s 8`` renders small,
short laps, as the tests have them; from 9 on they are the demo's.
"""

from __future__ import annotations

from bench.needs import needs

needs("nats-server", "rclone", "chromium", "cv2", "av")

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from cli.demo.render_laps import render_laps
from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.clients.console_start import drag_over
from tests.harness.vision.short_laps import render_short_laps
from tests.system.embedded import up

SHORT_LAP_S = 8.0
PATIENCE_S = 180.0
_MIDDLE = (640, 400)
_SUBMIT = "form.card button.primary"
_CAN_SUBMIT = f"document.querySelector({json.dumps(_SUBMIT)})?.disabled === false"
_PRICE = "document.querySelector('.price .amount')?.innerText ?? ''"
_STATE = "document.querySelector('main .state')?.className ?? ''"
# A frame of another origin says nothing; its address is among the page's resources once it is loaded.
_REPORT = """
performance.getEntriesByType('resource').some(({ initiatorType, name }) =>
    initiatorType === 'iframe' && name.endsWith('report.html'))
"""


class Steps:
    """Seconds of each step, and since the beginning."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()
        self.taken: dict[str, float] = {}

    def end(self, name: str) -> None:
        """Note that a step has ended."""
        now = time.monotonic()
        self.taken[name] = round(now - self._last, 2)
        self._last = now

    def all(self) -> dict[str, float]:
        """Return the steps with their sum."""
        return self.taken | {"total_s": round(self._last - self._began, 2)}


async def until(tab: ConsoleTab, expression: str) -> None:
    """Wait until an expression is true; a job may take longer than a test waits."""
    end = time.monotonic() + PATIENCE_S
    while not await tab.evaluate(expression):
        if time.monotonic() > end:
            raise TimeoutError(f"{expression}: {await tab.text()}; {tab.page.complaints()}")
        await asyncio.sleep(0.05)


async def drop_files(tab: ConsoleTab, files: list[Path]) -> None:
    """Drag files of this machine onto the page with the mouse."""
    await drag_over(tab, "dragEnter", files, *_MIDDLE)
    # As long as files hang over a page, a browser tells it so again and again; until it takes them, no drop counts.
    while not await tab.evaluate("document.querySelector('main .drop.over') !== null"):
        await drag_over(tab, "dragOver", files, *_MIDDLE)
        await asyncio.sleep(0.05)
    await drag_over(tab, "drop", files, *_MIDDLE)


async def measure(folder: Path, videos: list[Path], catalog: str | None) -> dict[str, Any]:
    """Start a system, do a first job by mouse, and return the seconds of each step."""
    steps = Steps()
    chosen = {"WORKER_CATALOG": catalog} if catalog else {}
    with up(folder / "data", **chosen) as system:
        origin = str(system.ready()["url"])
        steps.end("saccade_up_s")
        async with console_tab(origin, "/console", folder) as tab:
            await until(tab, "document.querySelector('main .drop') !== null")
            steps.end("browser_and_start_page_s")
            await drop_files(tab, videos)
            await until(tab, f"{_PRICE} !== ''")
            steps.end("workload_and_price_s")
            await until(tab, _CAN_SUBMIT)
            await tab.click(_SUBMIT)
            await until(tab, "location.pathname.startsWith('/console/jobs/job_')")
            steps.end("upload_and_submit_s")
            await until(tab, f"/good|bad/.test({_STATE})")
            steps.end("job_s")
            state = await tab.evaluate("document.querySelector('main .state').innerText")
            if state != "Succeeded":
                raise AssertionError(f"the job ended as {state}: {await tab.text()}")
            await until(tab, _REPORT)
            steps.end("report_shown_s")
            assert tab.page.complaints() == [], tab.page.complaints()
            foreign = [
                url for url in tab.page.requests() if not url.startswith(("http://127.0.0.1:", "blob:", "data:"))
            ]
            assert foreign == [], foreign
    return steps.all() | {"load": os.getloadavg()[0]}


def main() -> None:
    """Run it a few times, each in a new folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lap-s", type=float, default=SHORT_LAP_S)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--catalog", help="modules of workloads; all that are installed by default")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        laps = Path(folder) / "laps"
        laps.mkdir()
        if arguments.lap_s <= SHORT_LAP_S:
            videos = list(render_short_laps(laps))
        else:
            videos = list(render_laps(laps, 1, arguments.lap_s)[:2])
        for number in range(arguments.runs):
            run_folder = Path(folder) / f"run-{number}"
            run_folder.mkdir()
            print(json.dumps(asyncio.run(measure(run_folder, videos, arguments.catalog))), flush=True)


if __name__ == "__main__":
    main()
