"""Answers about the past with their ETag: what is true of a point of the history stays true, so clients may keep it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final

from fastapi import Header, Response
from pydantic import BaseModel

from services.gateway.time_machine.points import Point

#: Not for ever: an answer also shows whether files still exist, and what a tenant has erased must go.
_MAX_AGE_S: Final = 3600

IfNoneMatch = Annotated[str | None, Header(description="ETag of an answer as of a point of the history.")]
UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "Unchanged: the answer as of the point has the ETag of `If-None-Match`."}
}


def cached_answer(body: BaseModel, points: tuple[Point, ...], if_none_match: str | None) -> Response:
    """Return an answer about points of the history; 304 if the client has it."""
    content = body.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    settled = all(point.settled for point in points)
    headers = {
        "ETag": etag,
        "Cache-Control": f"private, max-age={_MAX_AGE_S}" if settled else "private, no-cache",
        # A caller's key, or the session of its browser, in which somebody else may log in before the answer is stale.
        "Vary": "Authorization, Cookie",
    }
    known = (if_none_match or "").split(",")
    if any(tag.strip().removeprefix("W/") in (etag, "*") for tag in known):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="application/json", headers=headers)
