"""Stop of a process that is still importing. Imports nothing that takes time."""

from __future__ import annotations

import os
import signal


def end_on_sigterm() -> None:
    """End this process on SIGTERM until it handles that.

    For the first process of a container only, which ignores a signal that it does not handle: it would start in spite
    of it, run, and be killed when its grace period is over.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
