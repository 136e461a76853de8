"""Lines that a child process writes, read with a deadline."""

from __future__ import annotations

import threading
from typing import IO, AnyStr


def read_line(pipe: IO[AnyStr], timeout_s: float = 60.0) -> AnyStr:
    """Return the next line of a pipe; empty at its end.

    Raises:
        AssertionError: no line came in time. The thread that waits for it ends with the pipe.
    """
    lines: list[AnyStr] = []
    reader = threading.Thread(target=lambda: lines.append(pipe.readline()), daemon=True)
    reader.start()
    reader.join(timeout_s)
    assert lines, f"the process wrote no line in {timeout_s:.0f} s"
    return lines[0]
