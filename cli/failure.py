"""What the command says when it cannot go on: one line, a code, and what to do; never a traceback."""

from __future__ import annotations

from typing import Final

REFUSED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


class Failure(Exception):  # noqa: N818 - it is shown to a person, as it is
    """The command ends here with one line for its user."""

    def __init__(self, message: str, *, code: str, hint: str = "", exit_code: int = REFUSED) -> None:
        """Keep the sentence, its stable code, what the user can do, and the exit code."""
        self.message = message
        self.code = code
        self.hint = hint
        self.exit_code = exit_code
        super().__init__(message)
