"""What a call can end with other than an answer: a stable code, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

#: Statuses of a server that is away or busy for a moment, and of a proxy that says so for it.
AWAY: Final = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """What every method of a client raises; the kinds below say where it went wrong."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        request_id: str = "",
        retryable: bool = False,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep what happened; ``status`` is 0 when there was no answer, ``problem`` the whole answer if there was."""
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.request_id = request_id
        #: Trying the same again later may succeed.
        self.retryable = retryable
        self.problem = dict(problem or {})
        super().__init__(f"{message} {hint}".strip())


class UnreachableError(ClientError):
    """The server gave no answer, for as long as it takes to come back: ``server_unreachable``."""


class RefusedError(ClientError):
    """The server answered that it will not; ``code`` and ``hint`` are the server's."""


class NotFoundError(RefusedError):
    """There is no such thing, or it is another's (404)."""


class UnauthorizedError(RefusedError):
    """The API key is missing or not valid, or may not do this (401, 403)."""


class TransferError(ClientError):
    """A file did not come through: ``storage_unavailable``, ``upload_refused``, ``download_failed``."""


class JobFailedError(ClientError):
    """A job ended without a result; ``code`` and ``hint`` are the job's own, or ``cancelled``."""


class WaitTimeoutError(ClientError):
    """The job goes on; only the waiting is over: ``wait_timed_out``."""


_KINDS: Final[dict[int, type[RefusedError]]] = {401: UnauthorizedError, 403: UnauthorizedError, 404: NotFoundError}


def refusal(response: httpx.Response) -> RefusedError:
    """Make an error of a problem+json answer (RFC 9457), or of whatever a proxy sent instead."""
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    kind = _KINDS.get(response.status_code, RefusedError)
    return kind(
        str(problem.get("code", "unexpected_answer")),
        str(problem.get("detail") or problem.get("title") or f"The server answered {response.status_code}."),
        str(problem.get("hint", "")),
        status=response.status_code,
        request_id=str(problem.get("request_id") or response.headers.get("X-Request-Id", "")),
        retryable=bool(problem.get("retryable", response.status_code in AWAY)),
        problem=problem,
    )


def unreachable(url: str, error: Exception) -> UnreachableError:
    """Say that there was no answer."""
    message = f"No answer from {url} ({error or type(error).__name__})."
    hint = "See that it runs and that this address is right."
    return UnreachableError("server_unreachable", message, hint, retryable=True)
