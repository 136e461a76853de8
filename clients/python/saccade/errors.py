"""What a call to the server can end with, other than an answer: a code, a sentence, and what to do."""

from __future__ import annotations


class ClientError(Exception):
    """The server refused, or could not be reached: what happened and what to do."""

    def __init__(self, code: str, message: str, hint: str = "", *, status: int = 0, request_id: str = "") -> None:
        """Keep the problem; ``status`` is 0 when there was no answer."""
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.request_id = request_id
        super().__init__(f"{message} {hint}".strip())
