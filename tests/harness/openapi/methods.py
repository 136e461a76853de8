"""Methods of each path, held against an OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tests.harness.openapi.hostile import Request, send

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def check_methods(document: Mapping[str, Any], url: str, known: Mapping[str, str]) -> None:
    """Send each method that a path does not have: 405, and ``Allow`` with those that it has."""
    for path in document["paths"]:
        # A path can also be one of a template: /v1/webhooks/keys is one of /v1/webhooks/{webhook_id}. The name of an
        # artifact may contain slashes.
        documented = {
            method.upper()
            for template, methods in document["paths"].items()
            if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template.replace("{name}", ".+")), path)
            for method in methods
        }
        assert ("GET" in documented) == ("HEAD" in documented), path
        for method in _METHODS:
            if method in documented:
                continue
            answer = send(url, Request(method, path, {name: known.get(name, "x") for name in _names(path)}))
            assert answer.status == 405, (method, path, answer.status)
            assert set((answer.headers["Allow"] or "").split(", ")) == documented, (method, path)


def _names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
