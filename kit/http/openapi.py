"""OpenAPI document of a service: routes, problem responses and authentication."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI, routing
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from kit.auth.principal import scopes_of
from kit.http.problems import Problem, problem_responses

#: Security schemes of which no route needs one in embedded mode (kit/auth/principal.py).
_SCHEMES_OF_KEYS: Final = frozenset({"HTTPBearer", "Ticket"})


def openapi_of(app: FastAPI, *, authenticated: bool) -> dict[str, Any]:
    """Return an application's OpenAPI document, built once, with the problems that its routes answer with.

    In embedded mode no route requires an API key.
    """
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
        )
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas |= schema.pop("$defs", {})
        schemas["Problem"] = schema
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        if not authenticated:
            for name in _SCHEMES_OF_KEYS:
                document["components"].get("securitySchemes", {}).pop(name, None)
        _state_scopes(app, document["paths"])
        for methods in document["paths"].values():
            for operation in methods.values():
                _complete(operation, authenticated=authenticated)
            if "get" in methods and "head" not in methods:
                methods["head"] = _head(methods["get"])
        app.openapi_schema = document
    return app.openapi_schema


def api_routes(app: FastAPI) -> Iterator[Any]:
    """Yield the HTTP routes of an application that FastAPI calls, with those of its routers."""
    # Older versions of FastAPI, which have no such function, copy the routes of a router into the application's own.
    contexts = getattr(routing, "iter_route_contexts", iter)(app.routes)
    return (route for route in contexts if hasattr(route, "dependant") and hasattr(route, "include_in_schema"))


def _state_scopes(app: FastAPI, paths: dict[str, Any]) -> None:
    """State the scopes of which a caller's key must have one, for each route that needs a key."""
    for route in api_routes(app):
        if route.include_in_schema and (scopes := scopes_of(route.dependant)):
            for method in route.methods:
                paths[route.path_format][method.lower()]["x-scopes"] = list(scopes)


def _complete(operation: dict[str, Any], *, authenticated: bool) -> None:
    """Add what holds for every route: its problems, and that a parameter is a text or absent, but never null."""
    schemes = operation.pop("security", [])
    if not authenticated:
        schemes = [scheme for scheme in schemes if _SCHEMES_OF_KEYS.isdisjoint(scheme)]
    if schemes:
        operation["security"] = schemes
    responses = operation["responses"]
    for status, response in problem_responses().items():
        responses[str(status)] = _joined(responses.get(str(status)), response)
    if schemes:
        challenge = {"description": "`Bearer`.", "schema": {"type": "string"}}
        responses["401"]["headers"] = {"WWW-Authenticate": challenge}
    else:
        del responses["401"]
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
        parameter["schema"] = {**choices[0], **schema} if len(choices) == 1 else {**schema, "anyOf": choices}
        if not choices:
            parameter["schema"] = schema


def _joined(known: dict[str, Any] | None, common: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a route with this status, which has problems of its own or FastAPI's default."""
    if known is None or "application/problem+json" not in known.get("content", {}):
        return common
    lines = dict.fromkeys([*known["description"].split("\n\n"), *common["description"].split("\n\n")])
    return {**known, "description": "\n\n".join(lines)}


def _head(get: dict[str, Any]) -> dict[str, Any]:
    """Return the operation of HEAD, which kit/http/head_requests.py answers wherever there is GET."""
    head = copy.deepcopy(get)
    head["operationId"] += "_head"
    head["summary"] = f"Headers of: {get['summary']}"
    for response in head["responses"].values():
        response.pop("content", None)
    return head


def any_case(text: str) -> str:
    """Return a pattern of a text in any mixture of upper and lower case: JSON Schema's patterns have no flags."""
    return "".join(f"[{char.upper()}{char.lower()}]" if char.isalpha() else f"[{char}]" for char in text)


def whole_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON Schema with all references resolved, for a body that a route reads by itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if name := str(value.get("$ref", "")).removeprefix("#/$defs/"):
                return resolved(definitions[name])
            return {key: resolved(item) for key, item in value.items()}
        return [resolved(item) for item in value] if isinstance(value, list) else value

    whole: dict[str, Any] = resolved(schema)
    return whole
