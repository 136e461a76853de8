"""Names of workloads for OpenAPI: those that this server has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from modal_workers import catalog


def names_of(*kinds: Literal["job", "pipeline", "session"]) -> Callable[[dict[str, Any]], None]:
    """Return what adds the names of the workloads of these kinds to a field's JSON Schema."""

    def add(schema: dict[str, Any]) -> None:
        # Only once a document is built: the catalog is read from the installed workers.
        schema["enum"] = [name for name, declared in catalog.workloads().items() if declared.kind in kinds]

    return add
