"""Failure of a command: one line, a code and a hint instead of a traceback."""

from __future__ import annotations

from typing import Final

REFUSED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class Failure(Exception):  # noqa: N818 - it is shown to the user as it is
    """End of the command with one line for the user."""

    def __init__(self, message: str, *, code: str, hint: str = "", exit_code: int = REFUSED) -> None:
        """Store the sentence, its stable code, what the user can do, and the exit code."""
        self.message = message
        self.code = code
        self.hint = hint
        self.exit_code = exit_code
        super().__init__(message)
