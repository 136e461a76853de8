"""Ends an embedded system's processes when its supervisor is gone, where the kernel does not do that itself.

Run as ``python -m cli.embedded.watchdog FOLDER`` with a pipe from the supervisor as standard input: its end is
the supervisor's end, however that came.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from cli.embedded.processes import end, recorded


def main() -> None:
    """Wait for the end of standard input, then end what the folder's records name."""
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while sys.stdin.buffer.read(4096):
        pass
    records = (folder / "processes").glob("*.json")
    end([process for record in records if (process := recorded(record))], grace_s=0.5)


if __name__ == "__main__":
    main()
