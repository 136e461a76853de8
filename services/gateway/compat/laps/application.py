"""Routes of the replaced lap comparison in its own form: errors are ``{"detail"}``, every page may read the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.http.problems import problem_headers
from services.gateway.compat.laps.lap_jobs import LapJobs
from services.gateway.compat.laps.requests import LapPair, LapSegments, LapUpload
from services.gateway.compat.open_cors import OpenCors
from services.gateway.compat.replaced_application import (
    CallerHandler,
    counted_route,
    for_caller,
    json_of,
    parsed,
    replaced_application,
)
from services.gateway.compat.replaced_paths import SYSTEMS

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_PREFIX: Final = SYSTEMS["laps"].at
_ALLOWED_HEADERS: Final = "Authorization, Content-Type, X-Magic-Word"
_NO_STORE: Final = {"Cache-Control": "no-store"}


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
        listed: list[tuple[str, str, ScopeName, CallerHandler]] = [
            ("POST", "/sign-upload", "write", self._sign_upload),
            ("POST", "/start-job", "write", self._start_job),
            ("GET", "/jobs/{call_id}", "read", self._job),
        ]
        app = replaced_application(
            [
                counted_route(prefix, path, method, for_caller(self._authenticator, scope, handler), self._on_error)
                for method, path, scope, handler in listed
            ]
        )
        return OpenCors(app, _ALLOWED_HEADERS)

    def _on_error(self, error: SaccadeError) -> Response:
        cause = self._cause_of(error)
        content = {"detail": cause.message, "code": cause.code, "hint": cause.hint}
        return JSONResponse(content, cause.kind.status, problem_headers(cause))

    async def _sign_upload(self, request: Request, caller: Principal) -> Response:
        wanted = parsed(LapUpload, await json_of(request))
        return JSONResponse(await self._jobs.sign_upload(caller.tenant, wanted), headers=_NO_STORE)

    async def _start_job(self, request: Request, caller: Principal) -> Response:
        body = await json_of(request)
        mode = body.get("mode") if isinstance(body, dict) else None
        if mode == "pair":
            return JSONResponse(await self._jobs.start(caller.tenant, parsed(LapPair, body)))
        if mode == "segments":
            return JSONResponse(await self._jobs.start(caller.tenant, parsed(LapSegments, body)))
        return JSONResponse({"detail": "mode must be 'pair' or 'segments'"}, 400)

    async def _job(self, request: Request, caller: Principal) -> Response:
        answer = await self._jobs.status(caller.tenant, str(request.path_params["call_id"]))
        return JSONResponse(answer, headers=_NO_STORE)
