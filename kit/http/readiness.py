"""Readiness of a service: ``/ready`` answers 503 with what is missing until it has read what its answers depend on.

``/health`` answers from the first moment on: a service that reads its history is alive, and a restart would make it
begin anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel

from contracts.errors import ErrorCode, SaccadeError
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Returns what is missing, in a sentence; None once it is there.
Part = Callable[[], str | None]

#: Routes that answer before the service is ready.
_ALWAYS: Final = frozenset({"/health", "/ready", "/metrics"})


class ReadyReport(BaseModel):
    """Answer of a service that is ready."""

    status: Literal["ready"] = "ready"
    service: str


class Readiness:
    """Parts that one service must have read before it is ready."""

    def __init__(self, service: str, **parts: Part) -> None:
        """Use the service's name and its parts by name."""
        self._service = service
        self._parts = parts

    def report(self) -> ReadyReport:
        """Return the report of a service that is ready.

        Raises:
            SaccadeError: STARTING, with what is ``missing`` by part.
        """
        missing = {name: what for name, part in self._parts.items() if (what := part())}
        if missing:
            message = f"The {self._service} is starting. {' '.join(dict.fromkeys(missing.values()))}"
            raise SaccadeError(ErrorCode.STARTING, message, missing=missing)
        return ReadyReport(service=self._service)


class ReadyGate:
    """Pure ASGI middleware: refuses everything but health, readiness and metrics until the service is ready."""

    def __init__(
        self, app: ASGIApp, readiness: Readiness, admits: Callable[[Scope], Awaitable[bool]] | None = None
    ) -> None:
        """Wrap an application; ``admits`` returns whether it can answer a request before that all the same."""
        self._app, self._admits = app, admits
        self._readiness = readiness
        self._is_open = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if not self._is_open and scope["type"] != "lifespan" and scope["path"] not in _ALWAYS:
            try:
                self._readiness.report()
            except SaccadeError as error:
                if self._admits is None or not await self._admits(scope):
                    await send_problem(scope, send, error)
                    return
            else:
                self._is_open = True
        await self._app(scope, receive, send)
