"""Runs a module that decodes what users sent in a child process, with a time limit and without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

#: Runs a module with the search path of this process, which an isolated interpreter does not take from an environment.
_RUN: Final = "import runpy, sys; sys.path[:] = sys.argv[2:]; runpy.run_module(sys.argv[1], run_name='__main__')"


@asynccontextmanager
async def decoder_process(module: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start ``python -m module`` with pipes; at the end it is killed with what it started.

    It has no environment, as that contains secrets, no working directory of ours and no open file but its pipes.

    Raises:
        OSError: it cannot be started: too many processes or open files.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-B", "-c", _RUN, module, *(str(Path(part).absolute()) for part in sys.path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def run_decoder(module: str, given: bytes, *, timeout_s: float) -> tuple[bytes, int]:
    """Run ``python -m module`` with ``given`` as its input; return its output and exit code.

    Raises:
        TimeoutError: it took longer than ``timeout_s``, and was killed with what it started.
        OSError: it cannot be started: too many processes or open files.
    """
    async with decoder_process(module) as process, asyncio.timeout(timeout_s):
        output, _ = await process.communicate(given)
        return output, process.returncode or 0
