"""Runs pycolmap's steps in processes of their own: their progress, their end on a stop, and what their death means."""

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

#: Between two looks at whether the job was asked to stop.
_LOOK_S: Final = 0.1
_TRIES: Final = 2
_SCRIPT: Final = Path(__file__).with_name("pycolmap_process.py")
_LOG_TAIL_BYTES: Final = 2000

StepProgress = Callable[[str, int, int], None]


class StepTimeout(Exception):  # noqa: N818 - not an error: the ladder goes on with what there is
    """A step did not end within its time."""


class StepCrashed(Exception):  # noqa: N818 - whether it is one is decided by how often it happens
    """The process of a step ended without saying so, or pycolmap gave an error; nothing that it wrote is believed."""

    def __init__(self, how: str, *, out_of_memory: bool = False) -> None:
        """Keep how it ended."""
        super().__init__(how)
        self.out_of_memory = out_of_memory


class PycolmapRunner:
    """Runs steps one after the other, each in a process group that ends with it."""

    def __init__(self, folder: Path, check: Callable[[], None], *, cores: float) -> None:
        """Use a folder for orders and logs; ``check`` raises when the job was asked to stop.

        ``cores``: what was asked for; a container may see all of its host's, and a thread needs memory for a photo.
        """
        self._threads = max(1, min(os.cpu_count() or 1, ceil(cores)))
        self._folder = folder
        self._check = check
        self._number = 0
        #: The running step's process, for tests that kill it.
        self.process: subprocess.Popen[bytes] | None = None

    def run(
        self, step: str, order: Mapping[str, Any], told: StepProgress, *, limit_s: float, afresh: Callable[[], None]
    ) -> None:
        """Do a step; one whose process died is done once more, after ``afresh`` has removed what it left.

        Raises:
            OutOfTime: it did not end within ``limit_s``.
            SaccadeError: OUT_OF_MEMORY, WORKER_BROKEN, where it died again.
            Stopped: the job was asked to stop; the process is gone by then.
        """
        for left in reversed(range(_TRIES)):
            afresh()
            try:
                self._once(step, order, told, limit_s)
                return
            except StepCrashed as death:
                log.warning("the step %s died: %s", step, death)
                if left:
                    continue
                if death.out_of_memory:
                    raise SaccadeError(
                        ErrorCode.OUT_OF_MEMORY, f"Finding the cameras ({step}) needs more memory than there is."
                    ) from death
                raise SaccadeError(
                    ErrorCode.WORKER_BROKEN, f"Finding the cameras ended twice in the step {step}: {death}."
                ) from death

    def _once(self, step: str, order: Mapping[str, Any], told: StepProgress, limit_s: float) -> None:
        self._number += 1
        stem = self._folder / f"{self._number:03d}_{step}"
        stem.with_suffix(".json").write_text(json.dumps({**order, "step": step, "threads": self._threads}))
        end_s = time.monotonic() + limit_s
        log_path = stem.with_suffix(".log")
        with log_path.open("wb") as errors, self._started(stem.with_suffix(".json"), errors) as (process, pipe):
            failure = self._listen(pipe, told, end_s)
            code = process.wait()
        if failure is None and code == 0:
            return
        log.warning("%s", log_path.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace"))
        if failure is not None:
            kind, message = str(failure["error"]), str(failure.get("message", ""))
            raise StepCrashed(f"{kind}: {message}", out_of_memory=kind == "MemoryError" or "bad_alloc" in message)
        if code < 0:
            # Nobody else sends a SIGKILL without a word but the kernel that has no memory left.
            raise StepCrashed(f"by {signal.Signals(-code).name}", out_of_memory=-code == signal.SIGKILL)
        raise StepCrashed(f"with the exit code {code}")

    @contextlib.contextmanager
    def _started(self, order: Path, errors: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Start the process; it is gone with its group when this is left, however that is."""
        ours, theirs = os.pipe()
        process = None
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", str(_SCRIPT), str(order), str(theirs)],
                stdin=subprocess.PIPE,  # held open: the child ends when we do
                stdout=errors,
                stderr=errors,
                pass_fds=(theirs,),
                start_new_session=True,
            )
            self.process = process
            os.close(theirs)
            theirs = -1
            yield process, ours
        finally:
            if process is not None:
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                assert process.stdin is not None
                process.stdin.close()
            for number in (ours, theirs):
                if number >= 0:
                    os.close(number)

    def _listen(self, pipe: int, told: StepProgress, end_s: float) -> dict[str, Any] | None:
        """Hand on what the process tells until it has nothing more to say; give the error that it told."""
        rest, failure = b"", None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while True:
                self._check()
                if time.monotonic() > end_s:
                    raise StepTimeout
                if not selector.select(_LOOK_S):
                    continue
                data = os.read(pipe, 65536)
                if not data:
                    return failure
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "error" in message:
                        failure = message
                    else:
                        told(message["step"], message["done"], message["total"])
