"""Runs pycolmap's steps in processes of their own: progress, cancellation, and the meaning of a crash."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError

log = logging.getLogger(__name__)

#: Interval between checks for cancellation.
_POLL_S: Final = 0.1
_ATTEMPTS: Final = 2
_SCRIPT: Final = Path(__file__).with_name("pycolmap_process.py")
_LOG_TAIL_BYTES: Final = 2000

StepProgress = Callable[[str, int, int], None]


class StepTimeout(Exception):  # noqa: N818 - expected: the search ends with the models it has
    """A step did not finish in time."""


class StepCrashed(Exception):  # noqa: N818 - an error only when it happens twice
    """The process of a step crashed or pycolmap raised an error; its output is discarded."""

    def __init__(self, how: str, *, out_of_memory: bool = False) -> None:
        """Store the reason."""
        super().__init__(how)
        self.out_of_memory = out_of_memory


class PycolmapRunner:
    """Runs steps one after the other, each in a process group that is killed with it."""

    def __init__(self, folder: Path, check: Callable[[], None], *, cores: float) -> None:
        """Use a folder for requests and logs; ``check`` raises when the job was asked to stop.

        ``cores``: the CPU request of the stage; a container may see all cores of its host, and each thread needs
        memory.
        """
        self._threads = max(1, min(os.cpu_count() or 1, ceil(cores)))
        self._folder = folder
        self._check = check
        self._number = 0
        #: The running step's process, for tests that kill it.
        self.process: subprocess.Popen[bytes] | None = None

    def run(
        self,
        step: str,
        request: Mapping[str, Any],
        on_progress: StepProgress,
        *,
        limit_s: float,
        clean_up: Callable[[], None],
    ) -> None:
        """Run a step; after a crash run it once more, with ``clean_up`` called first to remove what it wrote.

        Raises:
            StepTimeout: it did not finish within ``limit_s``.
            SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN: it crashed again.
            Stopped: the job was asked to stop; the process has been killed.
        """
        for retries_left in reversed(range(_ATTEMPTS)):
            clean_up()
            try:
                self._run_once(step, request, on_progress, limit_s)
                return
            except StepCrashed as crash:
                log.warning("step %s crashed: %s", step, crash)
                if retries_left:
                    continue
                if crash.out_of_memory:
                    raise SaccadeError(
                        ErrorCode.OUT_OF_MEMORY,
                        f"The step {step} of the pose search needs more memory than is available.",
                    ) from crash
                raise SaccadeError(
                    ErrorCode.WORKER_BROKEN, f"The step {step} of the pose search crashed twice: {crash}."
                ) from crash

    def _run_once(self, step: str, request: Mapping[str, Any], on_progress: StepProgress, limit_s: float) -> None:
        self._number += 1
        stem = self._folder / f"{self._number:03d}_{step}"
        stem.with_suffix(".json").write_text(json.dumps({**request, "step": step, "threads": self._threads}))
        end_s = time.monotonic() + limit_s
        log_path = stem.with_suffix(".log")
        with log_path.open("wb") as errors, self._process(stem.with_suffix(".json"), errors) as (process, pipe):
            failure = self._forward(pipe, on_progress, end_s)
            code = process.wait()
        if failure is None and code == 0:
            return
        log.warning("%s", log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace"))
        if failure is not None:
            kind, message = str(failure["error"]), str(failure.get("message", ""))
            raise StepCrashed(f"{kind}: {message}", out_of_memory=kind == "MemoryError" or "bad_alloc" in message)
        if code < 0:
            # A SIGKILL without a message comes from the out-of-memory killer of the kernel.
            raise StepCrashed(f"by {signal.Signals(-code).name}", out_of_memory=-code == signal.SIGKILL)
        raise StepCrashed(f"with the exit code {code}")

    @contextlib.contextmanager
    def _process(self, request: Path, errors: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Start the process; kill its group when the context exits."""
        read_end, write_end = os.pipe()
        process = None
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT), str(request), str(write_end)],
                stdin=subprocess.PIPE,  # held open: the child exits when it closes
                stdout=errors,
                stderr=errors,
                pass_fds=(write_end,),
                start_new_session=True,
            )
            self.process = process
            os.close(write_end)
            write_end = -1
            yield process, read_end
        finally:
            if process is not None:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
            for number in (read_end, write_end):
                if number >= 0:
                    os.close(number)

    def _forward(self, pipe: int, on_progress: StepProgress, end_s: float) -> dict[str, Any] | None:
        """Forward the progress of the process until the pipe closes; return the error that it reported, if any."""
        buffer, failure = b"", None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                self._check()
                if time.monotonic() > end_s:
                    raise StepTimeout
                if not selector.select(_POLL_S):
                    continue
                data = os.read(pipe, 65536)
                if not data:
                    return failure
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "error" in message:
                        failure = message
                    else:
                        on_progress(message["step"], message["done"], message["total"])
