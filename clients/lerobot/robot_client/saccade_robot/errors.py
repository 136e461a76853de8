"""What opening a session can end with. Streaming itself raises nothing: it counts and logs."""

from __future__ import annotations

import json


class RobotClientError(Exception):
    """A stable code, a sentence, and what to do."""

    def __init__(self, code: str, message: str, hint: str = "", *, status: int = 0) -> None:
        """Keep what happened; ``status`` is 0 when there was no answer."""
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        super().__init__(f"{message} {hint}".strip())

    @property
    def passing(self) -> bool:
        """Tell whether the same may succeed later: the server is away or busy."""
        return self.status in (0, 408, 425, 429) or self.status >= 500


def refusal(status: int, body: bytes) -> RobotClientError:
    """Make an error of a problem+json answer (RFC 9457), or of whatever a proxy sent instead."""
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
