"""Routes of the replaced vision system in its own form: errors are ``{"detail"}``, a refusal the text ``forbidden``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from contracts.caller_account import CallerAccount
from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal
from kit.auth.mapped_credential import caller_of
from kit.auth.revocation import serve_until_revoked
from kit.http.problems import problem_headers
from kit.http.request_body import parse_body
from services.gateway.compat.replaced_application import Handler, counted_route, json_of, parsed, replaced_application
from services.gateway.compat.vision.captions import Captions, UploadedCaption
from services.gateway.compat.vision.connection_places import ConnectionPlaces
from services.gateway.compat.vision.poke import Poke, PokeError
from services.gateway.compat.vision.stream_socket import StreamSocket

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

_NO_KEY: Final = "Poke API key not configured"
_FORBIDDEN: Final = frozenset({401, 403})

#: Returns the connection of an accepted socket.
NewSocket = Callable[[WebSocket, Principal, CallerAccount | None], StreamSocket]


class _PokeRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    message: str


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
        listed: list[tuple[str, str, Handler]] = [
            ("GET", "/health", self._health),
            ("POST", "/poke/send", self._send_to_poke),
            ("POST", "/captions/upload", self._upload_caption),
            ("GET", "/captions", self._list_captions),
        ]
        return replaced_application(
            [
                WebSocketRoute("/vision/stream", self._stream),
                *(counted_route(prefix, path, method, handler, self._on_error) for method, path, handler in listed),
            ]
        )

    def _on_error(self, error: SaccadeError) -> Response:
        return _answer(self._cause_of(error))

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
        message = parsed(_PokeRequest, await json_of(request)).message
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


def _answer(error: SaccadeError) -> Response:
    if error.kind.status in _FORBIDDEN:
        return PlainTextResponse("forbidden", 403)
    content = {"detail": error.message, "code": error.code, "hint": error.hint}
    return JSONResponse(content, error.kind.status, problem_headers(error))
