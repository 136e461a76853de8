"""FastAPI dependency on an object in the application's state, where the composition root has put it."""

from __future__ import annotations

from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection


def from_app_state(name: str) -> Any:
    """Return a dependency, for ``Annotated``, that resolves to ``app.state.<name>`` in routes and WebSockets."""

    async def resolve(connection: HTTPConnection) -> Any:
        return getattr(connection.app.state, name)

    return Depends(resolve)
