"""Worker as a child process: ``python -m modal_workers.runtime.worker_process``.

The assignment arrives on standard input; the log goes to standard error.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys

from kit.imports import without_garbage_collection

with without_garbage_collection():
    from contracts.assignment import Assignment
    from kit.logs import start_logging
    from kit.settings import S3Settings
    from modal_workers.runtime.child_processes import adopt_orphans, kill_descendants, limit_memory
    from modal_workers.runtime.context import Stopped
    from modal_workers.runtime.jobs.run_termination import EXIT_DONE, EXIT_UNREPORTED
    from modal_workers.runtime.run import run
    from modal_workers.runtime.settings import WorkerSettings, bus_settings, erase_secrets
    from modal_workers.runtime.stop import StopCause, StopFlag

log = logging.getLogger(__name__)


def main() -> int:
    """Run the assignment and return the exit code."""
    stop = StopFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.request(StopCause.SIGNAL))
    start_logging("worker")
    settings = WorkerSettings()
    assignment = Assignment.model_validate_json(sys.stdin.buffer.read())
    adopt_orphans()
    if settings.memory_bytes is not None and assignment.device == "cpu":
        limit_memory(settings.memory_bytes)
    try:
        bus, bucket = bus_settings(), S3Settings()
        erase_secrets()
        code = run(assignment, bus, bucket, settings, stop)
    except Stopped:
        log.info("stopped before the job was claimed")
        code = EXIT_DONE
    except Exception:
        log.exception("the worker could not start")
        code = EXIT_UNREPORTED
    with contextlib.suppress(OSError):  # disk full; only a dispatcher that did not start this process reads it
        (settings.run_folder / "exit").write_text(str(code))
    return code


if __name__ == "__main__":
    exit_code = main()
    kill_descendants()
    logging.shutdown()
    # Not sys.exit: a native library's thread must not keep a finished worker alive.
    os._exit(exit_code)
