"""Watchdog that ends an embedded system's processes when its supervisor dies, where the kernel does not.

Run as ``python -m cli.embedded.watchdog FOLDER`` with a pipe from the supervisor as standard input; the pipe closes
when the supervisor ends for any reason.
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
