"""Errors as RFC 9457 problem+json, for SaccadeError, validation, unknown routes and unexpected exceptions alike.

FastAPI is only imported by ``install_problems``, so that a service without it can answer with problems too.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import KINDS, ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.invalid_values import ROUTE_HINT, invalid_values, pointer, sentence
from kit.http.logged_path import logged_path

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
_RETRY_AFTER_S: Final = "2"
_CLIENT_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{1,128}$")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_BY_STATUS: Final = {
    400: ErrorCode.MALFORMED_REQUEST,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.BODY_TOO_LARGE,
}


class FieldError(BaseModel):
    """One invalid value and its location."""

    detail: str
    #: JSON pointer (RFC 6901) into the body, as a URI fragment.
    pointer: str | None = None
    #: Name of a query parameter or header.
    parameter: str | None = None


class Problem(BaseModel):
    """RFC 9457 problem details with our extensions."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:saccade:error:unknown_workload"])
    title: str
    status: int
    detail: str
    code: ErrorCode
    hint: str
    retryable: bool
    request_id: str
    errors: list[FieldError] | None = None


def request_id_of(scope: Scope) -> str:
    """Return the request's id: the client's ``X-Request-Id`` if it is valid, else a new one."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        client_id = next((value for name, value in scope.get("headers", ()) if name == b"x-request-id"), b"")
        state["request_id"] = client_id.decode() if _CLIENT_REQUEST_ID.match(client_id) else new_id("req")
    return str(state["request_id"])


def problem(error: SaccadeError, request_id: str) -> dict[str, Any]:
    """Return an error as problem details."""
    return {
        "type": f"urn:saccade:error:{error.code}",
        "title": error.kind.title,
        "status": error.kind.status,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
        "retryable": error.kind.retryable,
        "request_id": request_id,
        **error.extra,
    }


def problem_headers(error: SaccadeError) -> dict[str, str]:
    """Return the response headers of an error."""
    headers = {"cache-control": "no-store"}
    if error.code is ErrorCode.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if error.kind.status in (429, 503) or "retry_after_s" in error.extra:
        asked_s = error.extra.get("retry_after_s")
        headers["retry-after"] = _RETRY_AFTER_S if asked_s is None else str(max(1, math.ceil(asked_s)))
    return headers


async def send_problem(scope: Scope, send: Send, error: SaccadeError, *, allow: Sequence[str] = ()) -> None:
    """Answer with a problem from pure ASGI code; a WebSocket is refused before it is accepted.

    Its status is 403, after which a client does not come back; 503 stays 503 where the server can say so.
    """
    answer = "http.response"
    if scope["type"] == "websocket":
        answer = "websocket.http.response"
        if error.kind.status != 503 or answer not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008, "reason": str(error.code)})
            return
    request_id = request_id_of(scope)
    body = json.dumps(problem(error, request_id)).encode()
    headers = problem_headers(error) | {
        "content-type": PROBLEM_JSON,
        "content-length": str(len(body)),
        "x-request-id": request_id,
    }
    if allow:
        headers["allow"] = ", ".join(allow)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{answer}.start", "status": error.kind.status, "headers": raw})
    await send({"type": f"{answer}.body", "body": body})


def problem_responses(*codes: ErrorCode) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of a route's problems, including those of every route (kit/http/openapi.py)."""
    every = (
        ErrorCode.MALFORMED_REQUEST,
        ErrorCode.INVALID_PARAMETER,
        ErrorCode.BODY_TOO_LARGE,
        ErrorCode.UNAUTHENTICATED,
        ErrorCode.FORBIDDEN,
        ErrorCode.HOST_NOT_ALLOWED,
        ErrorCode.ORIGIN_NOT_ALLOWED,
        ErrorCode.WRONG_PARTITION,
        ErrorCode.RATE_LIMITED,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.STARTING,
        ErrorCode.EVENTS_FULL,
        ErrorCode.STORAGE_FULL,
        ErrorCode.INTERNAL,
    )
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    by_status: dict[int | str, list[str]] = {}
    for code in dict.fromkeys((*codes, *every)):
        by_status.setdefault(KINDS[code].status, []).append(f"`{code}`: {KINDS[code].title}.")
    return {status: {"description": "\n\n".join(lines), "content": schema} for status, lines in by_status.items()}


class RequestIds:
    """Pure ASGI middleware: adds a request id to every response, and turns an exception into a problem."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and add its id to the response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [pair for pair in message.get("headers", []) if pair[0] != b"x-request-id"]
                message = {**message, "headers": [*headers, (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception("request failed", extra={"request_id": request_id, "path": logged_path(scope["path"])})
            if started:
                raise
            await send_problem(scope, send, SaccadeError(ErrorCode.INTERNAL))


def _from_validation(error: RequestValidationError) -> SaccadeError:
    errors = error.errors()
    if any(detail["type"] == "json_invalid" for detail in errors):
        reason = errors[0].get("ctx", {}).get("error", "")
        return SaccadeError(ErrorCode.MALFORMED_REQUEST, f"The body is not valid JSON. {reason}".strip())
    if all(detail["loc"][0] == "body" for detail in errors):
        if isinstance(error.body, bytes | str) or error.body is None:
            message = "The body is not read as JSON." if error.body else "There is no body."
            hint = "Send a JSON object with Content-Type: application/json."
            return SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
        return invalid_values([{**detail, "loc": detail["loc"][1:]} for detail in errors], given=error.body)
    fields = [
        {"detail": sentence(detail), "parameter": str(detail["loc"][1])}
        if detail["loc"][0] != "body"
        else {"detail": sentence(detail), "pointer": pointer(detail["loc"][1:])}
        for detail in errors
    ]
    message = f"{errors[0]['loc'][1]}: {sentence(errors[0])}." if len(errors[0]["loc"]) > 1 else fields[0]["detail"]
    return SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=ROUTE_HINT, errors=fields)


def _from_http(error: HTTPException) -> SaccadeError:
    code = _BY_STATUS.get(error.status_code)
    if code is None:
        code = ErrorCode.MALFORMED_REQUEST if error.status_code < 500 else ErrorCode.INTERNAL
    return SaccadeError(code)


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that some route accepts on this path."""
    from starlette.routing import Match  # noqa: PLC0415

    scopes = {method: {**scope, "method": method} for method in _METHODS}
    found = [
        method
        for method, with_method in scopes.items()
        if any(route.matches(with_method)[0] is Match.FULL for route in app.routes)
    ]
    # Routes declare GET only; kit/http/head_requests.py adds HEAD.
    return ["GET", "HEAD", *found[1:]] if "GET" in found and "HEAD" not in found else found


def install_problems(app: FastAPI, cause_of: Callable[[SaccadeError], SaccadeError] = lambda error: error) -> None:
    """Install the handlers and middleware that answer every error as problem+json with the request's id.

    ``cause_of`` returns the error to answer with, for one whose cause is known better here than where it was raised.
    """
    from fastapi.exceptions import RequestValidationError  # noqa: PLC0415
    from fastapi.responses import Response  # noqa: PLC0415
    from starlette.exceptions import HTTPException  # noqa: PLC0415
    from starlette.requests import ClientDisconnect  # noqa: PLC0415

    def respond(request: Request, error: SaccadeError, more: Mapping[str, str] | None = None) -> Response:
        # In ASCII: the client's values may hold lone surrogates, which UTF-8 cannot encode.
        body = json.dumps(problem(error, request_id_of(request.scope)))
        headers = problem_headers(error) | dict(more or {})
        return Response(body, error.kind.status, headers, media_type=PROBLEM_JSON)

    async def on_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, SaccadeError)
        return respond(request, cause_of(error))

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, _from_validation(error))

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # Starlette only reports the methods of the first route of a path.
        allow = {"Allow": ", ".join(_methods(app, request.scope))} if error.status_code == 405 else {}
        return respond(request, _from_http(error), allow)

    async def on_disconnect(request: Request, error: Exception) -> Response:
        # Nobody gets it: for the metrics, in which it is no fault of the server.
        assert isinstance(error, ClientDisconnect)
        return respond(request, SaccadeError(ErrorCode.MALFORMED_REQUEST, "The body is not complete."))

    app.add_exception_handler(SaccadeError, on_ours)
    app.add_exception_handler(ClientDisconnect, on_disconnect)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_middleware(RequestIds)
