"""Errors of the client: a stable code, a message and a hint."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

#: Statuses of a server that is busy or unavailable for a moment, or of a proxy in front of it.
UNAVAILABLE: Final = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """Error of any method of a client; the subclasses tell what failed."""

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
        """Store the error; ``status`` is 0 without an answer, ``problem`` is the answer's problem+json."""
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status
        self.request_id = request_id
        #: Whether the same call may succeed later.
        self.retryable = retryable
        self.problem = dict(problem or {})
        super().__init__(f"{message} {hint}".strip())


class UnreachableError(ClientError):
    """No answer within the time of a restart (``server_unreachable``), or no such host (``host_not_found``)."""


class RefusedError(ClientError):
    """The server refused the request; ``code`` and ``hint`` are the server's."""


class NotFoundError(RefusedError):
    """The resource does not exist, or belongs to another tenant (404)."""


class UnauthorizedError(RefusedError):
    """The API key is missing or invalid, or lacks the scope (401, 403)."""


class TransferError(ClientError):
    """A file transfer failed: ``storage_unavailable``, ``upload_refused``, ``download_failed``."""


class JobFailedError(ClientError):
    """A job ended without a result; ``code`` and ``hint`` are the job's own, or ``cancelled``."""


class WaitTimeoutError(ClientError):
    """The wait timed out; the job still runs: ``wait_timed_out``."""


_KINDS: Final[dict[int, type[RefusedError]]] = {401: UnauthorizedError, 403: UnauthorizedError, 404: NotFoundError}


def refusal(response: httpx.Response) -> RefusedError:
    """Return the error of a problem+json answer (RFC 9457), or of a proxy's answer in another form."""
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
        retryable=bool(problem.get("retryable", response.status_code in UNAVAILABLE)),
        problem=problem,
    )


def unreachable(url: str, error: Exception) -> UnreachableError:
    """Return the error of a request without an answer: the host is unknown, or it does not answer."""
    if unknown := _name_error(error):
        message = f"There is no host {urlsplit(url).hostname} ({unknown.strerror or unknown})."
        hint = "Check the spelling of the address, and the connection of this machine."
        return UnreachableError("host_not_found", message, hint, retryable=True)
    message = f"No answer from {url} ({error or type(error).__name__})."
    hint = "Check that the server runs and that the address is right."
    return UnreachableError("server_unreachable", message, hint, retryable=True)


def _name_error(error: BaseException | None) -> socket.gaierror | None:
    """Return the failed look-up of the host's name, if this is what an error was caused by."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return error
        error = error.__cause__ or error.__context__
    return None
