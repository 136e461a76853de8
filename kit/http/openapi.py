"""OpenAPI document of a service: routes, problem responses and authentication."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from kit.http.problems import Problem


def openapi_of(app: FastAPI, *, authenticated: bool) -> dict[str, Any]:
    """Return an application's OpenAPI document, built once, with the problems that its routes refer to.

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
            document["components"].pop("securitySchemes", None)
            for methods in document["paths"].values():
                for operation in methods.values():
                    operation.pop("security", None)
        app.openapi_schema = document
    return app.openapi_schema


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
