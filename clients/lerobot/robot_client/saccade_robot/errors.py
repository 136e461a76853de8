"""Errors of opening a session. Streaming itself raises nothing: it counts and logs errors."""

from __future__ import annotations

import json


class RobotClientError(Exception):
    """Error with a stable code, a message and a hint."""

    def __init__(self, code: str, message: str, hint: str = "", *, status: int = 0) -> None:
        """Store the error; ``status`` is 0 without an answer."""
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        super().__init__(f"{message} {hint}".strip())

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later: the server is unavailable or busy."""
        return self.status in (0, 408, 425, 429) or self.status >= 500

    @property
    def passing(self) -> bool:
        """The former name of ``retryable``."""
        return self.retryable


def refusal(status: int, body: bytes) -> RobotClientError:
    """Return the error of a problem+json answer (RFC 9457), or of a proxy's answer in another form."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return RobotClientError(
        str(problem.get("code", "unexpected_answer")),
        str(problem.get("detail") or problem.get("title") or f"The server answered {status}."),
        str(problem.get("hint", "")),
        status=status,
    )
