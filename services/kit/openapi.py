"""The OpenAPI document of a service: what its routes say, the problems they answer with, and who must show a key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.kit.problems import Problem


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
