"""Parts of the applications of replaced systems: counted routes, and errors and bodies in those systems' own form."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from contracts.errors import SaccadeError
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.mapped_credential import caller_of
from kit.http.request_body import check_text

Handler = Callable[[Request], Awaitable[Response]]
CallerHandler = Callable[[Request, Principal], Awaitable[Response]]
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class _CountedRoute:
    """Route of a request, for the metrics."""

    path: str


class _InvalidBodyError(Exception):
    def __init__(self, cause: ValidationError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def replaced_application(routes: Sequence[BaseRoute], error_field: str = "detail") -> Starlette:
    """Return an application whose own errors, as for an unknown path, have their text in ``error_field``."""

    async def answer(request: Request, error: Exception) -> Response:  # noqa: ARG001 - Starlette's signature
        assert isinstance(error, HTTPException)
        return JSONResponse({error_field: error.detail}, error.status_code, error.headers)

    app = Starlette(routes=routes, exception_handlers={HTTPException: answer})
    app.router.redirect_slashes = False
    return app


def counted_route(
    prefix: str, path: str, method: str, handler: Handler, on_error: Callable[[SaccadeError], Response]
) -> Route:
    """Return a route that the metrics count as ``prefix + path``; ``on_error`` makes the answer to a typed error."""

    async def endpoint(request: Request) -> Response:
        request.scope["route"] = _CountedRoute(prefix + path)
        try:
            return await handler(request)
        except SaccadeError as error:
            return on_error(error)
        except _InvalidBodyError as error:
            return _invalid(error.cause)
        except ClientDisconnect:
            return Response(status_code=400)

    return Route(path, endpoint, methods=[method])


def for_caller(authenticator: Authenticator, scope: ScopeName, handler: CallerHandler) -> Handler:
    """Return ``handler`` with the caller of each request, who must have ``scope``."""

    async def handle(request: Request) -> Response:
        return await handler(request, caller_of(authenticator, request, scope))

    return handle


async def json_of(request: Request) -> Any:
    """Return a request's body; text that is not JSON is returned as None, and refused as no object."""
    body = await request.body()
    try:
        found = json.loads(body)
        check_text(found)
    except (ValueError, RecursionError, SaccadeError):
        return None
    return found


def parsed(model: type[_Model], body: Any) -> _Model:
    """Return a body as ``model``; ``counted_route`` answers one that is invalid as FastAPI does."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise _InvalidBodyError(error) from None


def _invalid(error: ValidationError) -> Response:
    """Answer as FastAPI does, which the replaced systems used; values are not repeated."""
    detail = [
        {"type": fault["type"], "loc": ["body", *fault["loc"]], "msg": fault["msg"]}
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return JSONResponse({"detail": detail}, 422)
