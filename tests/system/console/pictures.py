"""Pictures of every page of the console, for docs/console.md and for those who change a page; run by hand.

    python -m tests.system.console.pictures --docs docs/console      # the pictures of the document
    python -m tests.system.console.pictures --all /tmp/pictures      # every page, in both languages, dark, on a phone

A system is started and gets work: two laps, photos that are too few, an endpoint for webhooks, and the two live demos.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
from PIL import Image
from saccade_client import Client

from tests.harness.clients.console_browser import PHONE, ConsoleTab, console_tab
from tests.harness.clients.console_start import DroppedFile, drop
from tests.harness.servers.gateway import picture
from tests.harness.vision.short_laps import render_short_laps
from tests.harness.webhooks.listeners import listening
from tests.system.embedded import command, environment, up

_LIVE_S = 600
_COLOURS = 256
_START_S, _JOB_S = 60.0, 300.0
_LIST = ("", "jobs", "live", "events", "operate", "operate/spend", "keys", "webhooks")
_VARIANTS = (
    ("en", "light", (1280, 900)),
    ("de", "light", (1280, 900)),
    ("en", "dark", (1280, 900)),
    ("de", "light", PHONE),
    ("en", "dark", PHONE),
)


class Camera:
    """Takes pictures of a tab."""

    def __init__(self, tab: ConsoleTab, folder: Path) -> None:
        self._tab, self._folder = tab, folder

    async def take(self, name: str, top: str | None = None) -> None:
        """Write a picture of what is seen; ``top`` is an element that is scrolled to the upper edge before."""
        if top:
            await self._tab.evaluate(f"document.querySelector({top!r})?.scrollIntoView()")
        else:
            await self._tab.evaluate("scrollTo(0, 0)")
        await asyncio.sleep(1.0)
        seen: Image.Image = await self._tab.page.picture()
        packed = io.BytesIO()
        seen.quantize(_COLOURS).save(packed, "PNG", optimize=True)
        (self._folder / f"{name}.png").write_bytes(packed.getvalue())


async def prefer(tab: ConsoleTab, language: str) -> None:
    """Choose a language as the menu does."""
    await tab.evaluate(f"localStorage.setItem('saccade.language', {language!r})")
    await tab.page.tab.send("Page.reload")
    await asyncio.sleep(0.5)
    await wait(tab, "document.querySelector('main h1') !== null")


async def wait(tab: ConsoleTab, expression: str, patience_s: float = _START_S) -> None:
    """Wait until an expression is true."""
    async with asyncio.timeout(patience_s):
        while not await tab.evaluate(f"Boolean({expression})"):
            await asyncio.sleep(0.2)


async def take_docs(origin: str, folder: Path, into: Path, laps: Sequence[DroppedFile]) -> str:
    """Submit the laps through the Start page and take the pictures of the document; return the job's id."""
    async with console_tab(origin, "/console", folder / "desk") as tab:
        camera = Camera(tab, into)
        await wait(tab, "document.querySelector('main h3')")
        await drop(tab, *laps)
        await wait(tab, "document.querySelectorAll('.tile .state.good').length === 2")
        await wait(tab, "document.querySelector('.price details')")
        await camera.take("start")
        await tab.click("form.card button.primary")
        await wait(tab, "location.pathname.startsWith('/console/jobs/job_')")
        job_id = str(await tab.evaluate("location.pathname.split('/').at(-1)"))
        await wait(tab, "document.querySelector('[data-field=state]')?.dataset.value === 'succeeded'", _JOB_S)
        await wait(tab, "document.querySelector('iframe.view')")
        await asyncio.sleep(4)
        await camera.take("job")
        events = "[...document.querySelectorAll('a.event')].map((one) => new URLSearchParams(one.search).get('at'))"
        cursors = await tab.evaluate(events)
        await tab.go(f"console/jobs/{job_id}?mark={cursors[2]}&at={cursors[-2]}")
        await wait(tab, "document.querySelector('[aria-labelledby=changes-title] td')")
        await camera.take("job_timeline", "[aria-labelledby=timeline-title]")
        for name, path in (
            ("jobs", "jobs"),
            ("live", "live"),
            ("events", "events?since=3600"),
            ("operate", "operate"),
            ("spend", "operate/spend"),
            ("keys", "keys"),
        ):
            await tab.go(f"console/{path}")
            await wait(tab, "document.querySelector('main h1')")
            await asyncio.sleep(3)
            await camera.take(name)
        await tab.go("console/webhooks")
        await wait(tab, "document.querySelector('main table a, main .card a')")
        await tab.evaluate("document.querySelector('main table a, main .card a').click()")
        await wait(tab, "document.querySelector('.deliveries')")
        await camera.take("webhooks")
    async with console_tab(origin, f"/console/jobs/{job_id}", folder / "phone", size=(390, 844), scheme="dark") as tab:
        await wait(tab, "document.querySelector('iframe.view')")
        await asyncio.sleep(3)
        await Camera(tab, into).take("phone")
        await wait(tab, "document.querySelector('.steps .step')")
        await Camera(tab, into).take("phone_timeline", "[aria-labelledby=timeline-title]")
    return job_id


async def take_all(origin: str, folder: Path, into: Path, job_id: str, laps: Sequence[DroppedFile]) -> None:
    """Take pictures of every page in each language, colour and size."""
    for language, scheme, size in _VARIANTS:
        kind = f"{language}-{scheme}-{size[0]}"
        async with console_tab(origin, "/console/keys", folder / kind, size=size, scheme=scheme) as tab:
            await prefer(tab, language)
            camera = Camera(tab, into)
            for path in (*_LIST, f"jobs/{job_id}"):
                await tab.go(f"console/{path}".rstrip("/"))
                await wait(tab, "document.querySelector('main h1')")
                await asyncio.sleep(2)
                await camera.take(f"{kind}-{'jobs-one' if job_id in path else path.replace('/', '-') or 'overview'}")
            for name in ("result", "timeline", "log"):
                await camera.take(f"{kind}-jobs-one-{name}", f"[aria-labelledby={name}-title]")
            await tab.go("console")
            await wait(tab, "document.querySelector('.drop')")
            await drop(tab, *laps)
            await wait(tab, "document.querySelectorAll('.tile .state.good').length === 2")
            await tab.evaluate("document.querySelectorAll('details.folded').forEach((one) => (one.open = true))")
            await camera.take(f"{kind}-start")
            await camera.take(f"{kind}-start-form", "form.card")
            print(kind, await tab.width_px(), flush=True)
            live = httpx.get(f"{origin}/v1/sessions", trust_env=False).json()["data"]
            for session in live[:2]:
                await tab.page.tab.send("Page.navigate", url=f"{origin}/sessions/{session['id']}")
                await asyncio.sleep(6)
                await camera.take(f"{kind}-session-{session['workload']}")


async def run(docs: Path | None, everything: Path | None) -> None:
    """Start a system with work in it, and take the pictures."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as made:
        folder = Path(made)
        laps = [DroppedFile(path.name, path.read_bytes()) for path in render_short_laps(folder)]
        with up(folder / "data") as system:
            origin = str(system.ready()["url"])
            words = ("--url", origin, "--seconds", str(_LIVE_S), "--no-open", "--data", str(folder / "demo"))
            demos = [
                subprocess.Popen(
                    command("demo", name, *words),
                    cwd=folder,
                    env=environment(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                for name in ("live", "watch")
            ]
            try:
                async with listening() as receiver:
                    await asyncio.to_thread(_prepare, origin, folder, receiver.url)
                    into = docs or folder / "docs"
                    into.mkdir(exist_ok=True)
                    job_id = await take_docs(origin, folder, into, laps)
                    if everything:
                        everything.mkdir(exist_ok=True)
                        await take_all(origin, folder, everything, job_id, laps)
            finally:
                for demo in demos:
                    demo.terminate()
                    demo.wait(60)


def _prepare(origin: str, folder: Path, receiver: str) -> None:
    """Create an endpoint, and a job that the first check of its photos refuses."""
    endpoint = {"url": receiver, "types": ["job.*"], "description": "Results of the workshop"}
    httpx.post(f"{origin}/v1/webhooks", json=endpoint, trust_env=False, timeout=60).raise_for_status()
    photos = []
    for number in range(3):
        photo = folder / f"photo_{number}.png"
        photo.write_bytes(picture(640 + number, 480))
        photos.append(photo)
    with Client(origin) as client:
        client.submit("nerf", {"photos": [client.upload(photo) for photo in photos]}, {})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--all", type=Path)
    given = parser.parse_args()
    asyncio.run(run(given.docs, given.all))
