"""The OpenAPI document of a service: what its routes say, the problems they answer with, and who must show a key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from kit.http.problems import Problem


def openapi_of(app: FastAPI, *, authenticated: bool) -> dict[str, Any]:
    """Write an application's OpenAPI document once, with the problems that its routes refer to.

    In embedded mode it says what is true there: no route asks for a key.
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
    """Write a model's JSON Schema with all that it refers to in place, for a body that a route reads by itself."""
    schema = model.model_json_schema()
    named = schema.pop("$defs", {})

    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            if name := str(value.get("$ref", "")).removeprefix("#/$defs/"):
                return put_in(named[name])
            return {key: put_in(one) for key, one in value.items()}
        return [put_in(one) for one in value] if isinstance(value, list) else value

    whole: dict[str, Any] = put_in(schema)
    return whole
