"""Processes die by kill -9 in the middle of reactions: no event is lost, and one that kills its process ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.servers.embedded import ROOT
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.streams.reaction_stage import Stage, complete_upload

pytestmark = pytest.mark.anyio


class Service:
    """A service of reactions in a process of its own, and the lines that it has written."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self._command = [sys.executable, "-m", "tests.harness.streams.killed_service", stage.server.settings.url]
        self._log = folder / "log"
        self.attempts = 10
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        path = f"{ROOT}:{ROOT / 'clients/events'}"
        self.process = subprocess.Popen(
            [*self._command, str(self._log), str(self.attempts)], cwd=ROOT, env={"PYTHONPATH": path, **ONE_AUTHORITY}
        )

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(timeout=30)

    def lines(self, word: str) -> list[str]:
        """Return the uploads that were begun, or done."""
        text = self._log.read_text() if self._log.exists() else ""
        return [line.split()[1] for line in text.splitlines() if line.startswith(word)]


@pytest.fixture
def service(stage: Stage, tmp_path: Path) -> Iterator[Service]:
    service = Service(stage, tmp_path)
    yield service
    if service.process:
        service.kill()


async def test_killed_in_the_middle_and_every_event_is_handled(stage: Stage, service: Service) -> None:
    uploads = [await complete_upload(stage.store) for _ in range(16)]
    service.start()
    async with asyncio.timeout(60):
        for _ in range(2):
            begun = len(service.lines("begin"))
            while len(service.lines("begin")) < begun + 4:
                await asyncio.sleep(0.01)
            service.kill()
            service.start()
        while set(service.lines("done")) != set(uploads):
            await asyncio.sleep(0.05)
    await stage.until_settled()
    begun_more_than_once = [upload_id for upload_id, count in Counter(service.lines("begin")).items() if count > 1]
    assert begun_more_than_once, "nobody was killed in the middle"
    assert not await stage.dead_letters()


async def test_an_event_that_kills_its_process_becomes_a_dead_letter(stage: Stage, service: Service) -> None:
    poisonous = await complete_upload(stage.store, "poison")
    service.attempts = 2
    service.start()
    deaths = 0
    async with asyncio.timeout(60):
        while not (letters := await stage.dead_letters()):
            assert service.process
            if service.process.poll() is not None:
                deaths += 1
                service.start()
            await asyncio.sleep(0.05)
        good = await complete_upload(stage.store)
        while good not in service.lines("done"):
            await asyncio.sleep(0.05)
    assert deaths == service.attempts
    assert service.lines("begin").count(poisonous) == service.attempts
    assert len(letters) == 1
