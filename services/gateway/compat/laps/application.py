"""Routes of the replaced lap comparison in its own form: errors are ``{"detail"}``, every page may read the answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.http.problems import problem_headers
from services.gateway.compat.laps.lap_jobs import LapJobs
from services.gateway.compat.laps.requests import LapPair, LapSearch, LapSegments, LapUpload
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
#: The page waits for ``detect-laps`` without an end. A search that ends within this time is answered with its status;
#: then blanks before the JSON keep proxies from ending the connection.
ANSWER_WAIT_S: Final = 50.0
BLANK_INTERVAL_S: Final = 10.0
SEARCH_LIMIT_S: Final = 3600.0


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
            ("POST", "/detect-laps", "write", self._detect_laps),
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

    async def _detect_laps(self, request: Request, caller: Principal) -> Response:
        wanted = parsed(LapSearch, await json_of(request))
        job_id = await self._jobs.detect(caller.tenant, wanted)
        found = await self._jobs.detected(caller.tenant, job_id, wanted.most, ANSWER_WAIT_S)
        if found is not None:
            return JSONResponse(found, headers=_NO_STORE)
        late = self._late_answer(caller.tenant, job_id, wanted.most)
        return StreamingResponse(late, media_type="application/json", headers=_NO_STORE)

    async def _late_answer(self, tenant: str, job_id: str, most: int) -> AsyncIterator[bytes]:
        """Send blanks until the search has ended, then its laps; the status was sent long before."""
        found: dict[str, Any] | None = None
        waited_s = ANSWER_WAIT_S
        while found is None and waited_s < SEARCH_LIMIT_S:
            yield b" "
            try:
                found = await self._jobs.detected(tenant, job_id, most, BLANK_INTERVAL_S)
            except SaccadeError as error:
                found = {"laps": [], "detail": self._cause_of(error).message}
            waited_s += BLANK_INTERVAL_S
        yield json.dumps(found or {"laps": [], "detail": f"{job_id} still runs; send the request again."}).encode()

    async def _job(self, request: Request, caller: Principal) -> Response:
        answer = await self._jobs.status(caller.tenant, str(request.path_params["call_id"]))
        return JSONResponse(answer, headers=_NO_STORE)
