"""Limit of request bodies whose length is not declared."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException

from kit.http.body_limit import BodyLimit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("pieces", [[200], [60, 60], [60, 60, 60]])
async def test_a_body_that_grows_too_large_is_read_to_its_end_and_not_beyond(pieces: list[int]) -> None:
    """Servers wait in ``receive`` after the last piece, until the client disconnects."""
    left = [{"type": "http.request", "body": bytes(size), "more_body": True} for size in pieces]
    left[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        assert left, "nothing comes after the last piece"
        return left.pop(0)

    async def read_all(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            continue

    async def send(message: Any) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/v1/jobs", "headers": []}
    with pytest.raises(HTTPException):
        await BodyLimit(read_all, limit_bytes=100)(scope, receive, send)  # type: ignore[arg-type]
    assert left == []
