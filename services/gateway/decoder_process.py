"""Runs a module that decodes what users sent in a child process, with a time limit and without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys


async def run_decoder(module: str, given: bytes, *, timeout_s: float) -> tuple[bytes, int]:
    """Run ``python -m module`` with ``given`` as its input; return its output and exit code.

    Raises:
        TimeoutError: it took longer than ``timeout_s``, and was killed with what it started.
        OSError: it cannot be started: too many processes or open files.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # The decoder process must not inherit the environment, which contains secrets.
        env={"PYTHONPATH": os.pathsep.join(part for part in sys.path if part) or ".", "PYTHONDONTWRITEBYTECODE": "1"},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return output, process.returncode or 0
