"""Steps of the scripted worker."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.runtime.context import Context
from tests.workers.scripted.spec import ScriptedParams, ScriptedResult

_SLEEP = "import time; time.sleep(600)"
#: Detached process: a new session, and its parent ends at once.
_ORPHAN = f"import os, time\nif os.fork(): os._exit(0)\nos.setsid()\n{_SLEEP}"
_HOARD = (
    "held = bytearray(150 * 2**20)\nfor at in range(0, len(held), 4096): held[at] = 1\nimport time; time.sleep(600)"
)


class _HangingHandler(logging.Handler):
    """Handler that is never flushed: the shutdown of the log waits for it."""

    def emit(self, record: logging.LogRecord) -> None:
        del record

    def flush(self) -> None:
        time.sleep(600)


class Script:
    """Runner of one script."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.notes: dict[str, str] = {}
        self._stages = ExitStack()

    def do(self, step: str) -> None:
        name, *words = step.split()
        action: Callable[..., None] = getattr(self, f"do_{name}")
        action(*words)

    def do_stage(self, name: str) -> None:
        self.close()
        self._stages.enter_context(self.context.stage(name))

    def close(self) -> None:
        self._stages.close()

    def do_progress(self, fraction: str, message: str = "", *frames: str) -> None:
        frame, frame_count = map(int, frames) if frames else (None, None)
        self.context.progress(float(fraction), message, frame=frame, frame_count=frame_count)

    def do_sleep(self, seconds: str) -> None:
        time.sleep(float(seconds))

    def do_work(self, seconds: str) -> None:
        """Sleep with a check in the loop, as a job should."""
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            self.context.check()
            time.sleep(0.02)

    def do_save(self, name: str, size_bytes: str) -> None:
        path = self.context.scratch / "artifact"
        path.write_bytes(bytes(range(256)) * (int(size_bytes) // 256))
        artifact = self.context.save(path, name, "application/octet-stream", title=name, units={"value": "byte"})
        self.notes[name] = artifact.sha256

    def do_write(self, name: str, media_type: str, *words: str) -> None:
        """Publish a text as an artifact."""
        path = self.context.scratch / "written"
        path.write_text(" ".join(words).replace("\\n", "\n"))
        self.context.save(path, name, media_type)

    def do_publish_input(self, name: str, media_type: str) -> None:
        """Publish the input as an artifact, such as a video."""
        self.context.save(self.context.input("clip"), name, media_type)

    def do_until_file(self, path: str) -> None:
        """Wait until a test has made a file."""
        while not Path(path).exists():
            self.context.check()
            time.sleep(0.02)

    def do_fail_without(self, path: str) -> None:
        """Fail until a test has made a file."""
        if not Path(path).exists():
            raise SaccadeError(ErrorCode("clip_static"), "The script <b>says</b> so.")

    def do_artifact(self, name: str) -> None:
        path = self.context.artifact(name)
        self.notes[f"artifact {name}"] = hashlib.sha256(path.read_bytes()).hexdigest() if path else "none"

    def do_read_input(self) -> None:
        path = self.context.input("clip")
        self.notes["input"] = f"{self.context.input_name('clip')} {path.suffix} {path.read_bytes().decode()}"

    def do_keep(self, name: str, text: str) -> None:
        path = self.context.scratch / name
        path.write_text(text)
        self.context.keep(path, name)

    def do_checkpoint(self, name: str) -> None:
        path = self.context.checkpoint(name)
        self.notes[f"checkpoint {name}"] = path.read_text() if path else "none"

    def do_kill_unless(self, name: str) -> None:
        if self.context.checkpoint(name) is None:
            self.do_keep(name, "here")
            os.kill(os.getpid(), signal.SIGKILL)

    def do_work_unless(self, name: str, seconds: str) -> None:
        """Work in the first run only: the next one finds its checkpoint."""
        if self.notes.get(f"checkpoint {name}") == "none":
            self.do_work(seconds)

    def do_out_of_memory_unless(self, device: str) -> None:
        if self.context.device != device:
            raise MemoryError(f"{self.context.device} is too small")

    def do_fail(self, code: str) -> None:
        raise SaccadeError(ErrorCode(code), "The script says so.")

    def do_need_more_than(self, *devices: str) -> None:
        """Fail with out of memory on these devices, as on a GPU that is too small."""
        if self.context.device in devices:
            raise MemoryError("the device has too little memory")
        self.notes["device"] = self.context.device

    def do_crash(self) -> None:
        raise RuntimeError("secret detail\nand more")

    def do_exit(self, code: str) -> None:
        os._exit(int(code))

    def do_kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def do_ignore_signals(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def do_hang_at_exit(self) -> None:
        """Let the process hang when everything is done and reported, and not end by SIGTERM."""
        logging.getLogger().addHandler(_HangingHandler())

    def do_children(self) -> None:
        """Start a child, one in its own session, and one that has also lost its parent."""
        subprocess.Popen([sys.executable, "-c", _SLEEP])
        subprocess.Popen([sys.executable, "-c", _SLEEP], start_new_session=True)
        subprocess.run([sys.executable, "-c", _ORPHAN], check=True, timeout=300)

    def do_shout(self, megabytes: str) -> None:
        for _ in range(int(megabytes)):
            sys.stderr.write(("x" * 1023 + "\n") * 1024)

    def do_hoard(self) -> None:
        """Allocate too much memory in one process."""
        held = [b"x" * (64 * 2**20) for _ in range(64)]
        self.notes["held"] = str(len(held))

    def do_hoard_in_children(self) -> None:
        """Allocate too much memory in total, in processes below the limit."""
        for _ in range(6):
            subprocess.Popen([sys.executable, "-c", _HOARD])


def run(params: ScriptedParams, context: Context) -> ScriptedResult:
    """Run the script."""
    script = Script(context)
    for step in params.script:
        script.do(step)
    script.close()
    return ScriptedResult(steps_done=len(params.script), notes=script.notes)
