"""Ends an embedded system's processes when its supervisor is gone, where the kernel does not do that itself.

Run as ``python -m cli.embedded.watchdog FOLDER`` with a pipe from the supervisor as standard input: its end is
the supervisor's end, however that came.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cli.embedded.processes import children_of, end_processes


def main() -> None:
    """Wait for the end of standard input, then end the folder's processes."""
    while sys.stdin.buffer.read(4096):
        pass
    end_processes(children_of(Path(sys.argv[1])), grace_s=0.5)


if __name__ == "__main__":
    main()
