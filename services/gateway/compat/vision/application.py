"""Routes of the replaced vision system in its own form: errors are ``{"detail"}``, a refusal the text ``forbidden``."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from contracts.caller_account import CallerAccount
from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.mapped_credential import caller_of
from kit.auth.revocation import serve_until_revoked
from kit.http.request_body import check_text, parse_body
from services.gateway.compat.vision.captions import Captions, UploadedCaption
from services.gateway.compat.vision.connection_places import ConnectionPlaces
from services.gateway.compat.vision.poke import Poke, PokeError
from services.gateway.compat.vision.stream_socket import StreamSocket

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

_NO_KEY: Final = "Poke API key not configured"
_FORBIDDEN: Final = frozenset({401, 403})

_Handler = Callable[[Request], Awaitable[Response]]
#: Returns the connection of an accepted socket.
NewSocket = Callable[[WebSocket, Principal, CallerAccount | None], StreamSocket]


class _PokeRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message: str


@dataclass(frozen=True)
class _CountedRoute:
    """Route of a request, for the metrics."""

    path: str


class VisionRoutes:
    """Handlers of the routes."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        captions: Captions,
        poke: Poke,
        new_socket: NewSocket,
        account_of: Callable[[Mapping[str, str]], CallerAccount | None],
        cause_of: Callable[[SaccadeError], SaccadeError],
    ) -> None:
        """``account_of`` returns the Modal account that inference runs on, from a request's headers; None: our own.

        ``cause_of`` returns the error to answer with, for one whose cause is known better by the caller.
        """
        self._account_of = account_of
        self._authenticator, self._cause_of = authenticator, cause_of
        self._captions, self._poke, self._new_socket = captions, poke, new_socket
        self._places = ConnectionPlaces()

    def application(self, prefix: str) -> ASGIApp:
        """Return the application to mount at a path prefix."""
        listed: list[tuple[str, str, _Handler]] = [
            ("GET", "/health", self._health),
            ("POST", "/poke/send", self._send_to_poke),
            ("POST", "/captions/upload", self._upload_caption),
            ("GET", "/captions", self._list_captions),
        ]
        app = Starlette(
            routes=[
                WebSocketRoute("/vision/stream", self._stream),
                *(
                    Route(path, self._endpoint(prefix + path, handler), methods=[kind])
                    for kind, path, handler in listed
                ),
            ],
            exception_handlers={HTTPException: _on_http_exception},
        )
        app.router.redirect_slashes = False
        return app

    def _endpoint(self, path: str, handler: _Handler) -> _Handler:
        async def endpoint(request: Request) -> Response:
            request.scope["route"] = _CountedRoute(path)
            try:
                return await handler(request)
            except SaccadeError as error:
                return _answer(self._cause_of(error))
            except ClientDisconnect:
                return Response(status_code=400)

        return endpoint

    async def _health(self, request: Request) -> Response:  # noqa: ARG002
        """Answer exactly as the replaced system did, to anybody."""
        return JSONResponse({"status": "ok"})

    async def _stream(self, socket: WebSocket) -> None:
        try:
            principal = caller_of(self._authenticator, socket, "write")
            account = self._account_of(socket.headers)
        except SaccadeError as error:
            await socket.send_denial_response(_answer(error))
            return
        with self._places.place(principal.tenant) as taken:
            if not taken:
                await socket.send_denial_response(PlainTextResponse("too many streams", 503))
                return
            await socket.accept()
            serving = self._new_socket(socket, principal, account).run()
            await serve_until_revoked(self._authenticator, principal, socket, serving)

    async def _send_to_poke(self, request: Request) -> Response:
        caller_of(self._authenticator, request, "write")
        try:
            message = _PokeRequest.model_validate(await _json_of(request)).message
        except ValidationError as error:
            return _invalid(error)
        api_key = request.headers.get("x-poke-api-key", "").strip()
        if not api_key:
            return JSONResponse({"detail": _NO_KEY}, 500)
        try:
            data = await self._poke.send(message, api_key)
        except PokeError as error:
            return JSONResponse({"detail": str(error)}, 502)
        return JSONResponse({"success": True, "data": data, "error": None})

    async def _upload_caption(self, request: Request) -> Response:
        caller = caller_of(self._authenticator, request, "write")
        caption = parse_body(UploadedCaption, await request.body())
        stored_at_ms = await self._captions.keep(caller.tenant, caption)
        return JSONResponse({"success": True, "windowId": caption.windowId, "storedAt": stored_at_ms})

    async def _list_captions(self, request: Request) -> Response:
        """List captions for the operator, who has an API key: a word that wearers share does not open this route."""
        caller = self._authenticator.authenticate(request.headers, "read")
        after = request.query_params.get("after", "0")
        page = await self._captions.page(caller.tenant, int(after[:18]) if after.isascii() and after.isdigit() else 0)
        return JSONResponse(
            {
                "captions": [
                    {**stored.caption.model_dump(exclude_none=True), "storedAt": stored.stored_at_ms}
                    for stored in page.captions
                ],
                "after": page.after,
                "more": page.more,
            }
        )


async def _json_of(request: Request) -> Any:
    """Return a request's body; text that is not JSON is returned as it is, and refused as no object."""
    body = await request.body()
    try:
        found = json.loads(body)
        check_text(found)
    except (ValueError, RecursionError, SaccadeError):
        return None
    return found


def _invalid(error: ValidationError) -> Response:
    """Answer as FastAPI does, which the replaced system used; values are not repeated."""
    detail = [
        {"type": fault["type"], "loc": ["body", *fault["loc"]], "msg": fault["msg"]}
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return JSONResponse({"detail": detail}, 422)


def _answer(error: SaccadeError) -> Response:
    if error.kind.status in _FORBIDDEN:
        return PlainTextResponse("forbidden", 403)
    content = {"detail": error.message, "code": error.code, "hint": error.hint}
    return JSONResponse(content, error.kind.status, {"Cache-Control": "no-store"})


async def _on_http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
