"""Routes of the replaced lap comparison in its own form: errors are ``{"detail"}``, every page may read the answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.mapped_credential import caller_of
from kit.http.problems import problem_headers
from kit.http.request_body import check_text
from services.gateway.compat.laps.lap_jobs import LapJobs
from services.gateway.compat.laps.requests import LapPair, LapSegments, LapUpload
from services.gateway.compat.open_cors import OpenCors
from services.gateway.compat.replaced_paths import SYSTEMS

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_PREFIX: Final = SYSTEMS["laps"].at
_ALLOWED_HEADERS: Final = "Authorization, Content-Type, X-Magic-Word"
_NO_STORE: Final = {"Cache-Control": "no-store"}
_Model = TypeVar("_Model", bound=BaseModel)
_Handler = Callable[[Request, Principal], Awaitable[Response]]


@dataclass(frozen=True)
class _CountedRoute:
    """Route of a request, for the metrics."""

    path: str


def is_laps(path: str) -> bool:
    """Return whether a path, as this server routes it, belongs to the lap comparison's routes."""
    return path.startswith(f"{_PREFIX}/")


class LapRoutes:
    """Handlers of the routes."""

    def __init__(
        self, authenticator: Authenticator, jobs: LapJobs, cause_of: Callable[[SaccadeError], SaccadeError]
    ) -> None:
        """``cause_of`` returns the error to answer with, for one whose cause is known better by the caller."""
        self._authenticator, self._jobs, self._cause_of = authenticator, jobs, cause_of

    def application(self, prefix: str) -> ASGIApp:
        """Return the application to mount at a path prefix."""
        listed: list[tuple[str, str, ScopeName, _Handler]] = [
            ("POST", "/sign-upload", "write", self._sign_upload),
            ("POST", "/start-job", "write", self._start_job),
            ("GET", "/jobs/{call_id}", "read", self._job),
        ]
        app = Starlette(
            routes=[
                Route(path, self._endpoint(prefix + path, scope, handler), methods=[method])
                for method, path, scope, handler in listed
            ],
            exception_handlers={HTTPException: _on_http_exception},
        )
        app.router.redirect_slashes = False
        return OpenCors(app, _ALLOWED_HEADERS)

    def _endpoint(self, path: str, scope: ScopeName, handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            request.scope["route"] = _CountedRoute(path)
            try:
                return await handler(request, caller_of(self._authenticator, request, scope))
            except SaccadeError as error:
                return _error(self._cause_of(error))
            except _InvalidBodyError as error:
                return _invalid(error.cause)
            except ClientDisconnect:
                return Response(status_code=400)

        return endpoint

    async def _sign_upload(self, request: Request, caller: Principal) -> Response:
        wanted = _parsed(LapUpload, await _json_of(request))
        return JSONResponse(await self._jobs.sign_upload(caller.tenant, wanted), headers=_NO_STORE)

    async def _start_job(self, request: Request, caller: Principal) -> Response:
        body = await _json_of(request)
        mode = body.get("mode") if isinstance(body, dict) else None
        if mode == "pair":
            return JSONResponse(await self._jobs.start(caller.tenant, _parsed(LapPair, body)))
        if mode == "segments":
            return JSONResponse(await self._jobs.start(caller.tenant, _parsed(LapSegments, body)))
        return JSONResponse({"detail": "mode must be 'pair' or 'segments'"}, 400)

    async def _job(self, request: Request, caller: Principal) -> Response:
        answer = await self._jobs.status(caller.tenant, str(request.path_params["call_id"]))
        return JSONResponse(answer, headers=_NO_STORE)


class _InvalidBodyError(Exception):
    def __init__(self, cause: ValidationError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _parsed(model: type[_Model], body: Any) -> _Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _InvalidBodyError(error) from None


async def _json_of(request: Request) -> Any:
    """Return a request's body; text that is not JSON is returned as None, and refused as no object."""
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


def _error(error: SaccadeError) -> Response:
    content = {"detail": error.message, "code": error.code, "hint": error.hint}
    return JSONResponse(content, error.kind.status, problem_headers(error))


async def _on_http_exception(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)
