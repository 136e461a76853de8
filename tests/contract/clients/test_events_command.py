"""``saccade events`` beside other commands of a shell."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from tests.contract.clients.test_event_stream_resume import block
from tests.harness.clients.scripted_streams import ScriptedStreams
from tests.rules.tree import ROOT

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("words", [("--json",), ()])
async def test_following_ends_when_its_reader_has_ended(words: tuple[str, ...]) -> None:
    """As in ``saccade events --follow | head -1``."""
    body = [b":\nretry: 1\n: live\n"]
    for number in range(1, 200):
        body += [block("job.failed", f"e.{number}"), 0.1]
    async with ScriptedStreams({"/v1/events": [body]}, hold=True) as server:
        command = [sys.executable, "-m", "cli", "events", "--follow", *words, "--url", server.url]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            assert process.stdout
            assert process.stderr
            assert b"job_1" in await asyncio.to_thread(process.stdout.readline)
            process.stdout.close()
            ended = await asyncio.to_thread(process.wait, 20)
            with process.stderr:
                assert (ended, process.stderr.read()) == (0, b"")
        finally:
            process.kill()
            process.wait()
