"""``saccade events`` beside other commands of a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import pytest

from tests.contract.clients.test_event_stream_resume import block
from tests.harness.clients.scripted_streams import ScriptedStreams
from tests.rules.tree import ROOT

pytestmark = pytest.mark.anyio

_PIPELINE = 'set -o pipefail; "$@" | head -n 1'


@pytest.mark.parametrize("words", [("--json",), ()])
async def test_following_ends_when_its_reader_has_ended(words: tuple[str, ...]) -> None:
    body: list[bytes | float] = [b":\nretry: 1\n: live\n"]
    for number in range(1, 300):
        body += [block("job.failed", f"e.{number}"), 0.1]
    async with asyncio.timeout(60), ScriptedStreams({"/v1/events": [body]}, hold=True) as server:
        command = [sys.executable, "-m", "cli", "events", "--follow", *words, "--url", server.url]
        process = await asyncio.create_subprocess_exec(
            *["bash", "-c", _PIPELINE, "bash", *command],
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, error = await asyncio.wait_for(process.communicate(), 20)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, error) == (0, b"")
    assert out.count(b"\n") == 1
    assert b"job_1" in out
