"""Dependency of all routes of webhooks: they answer when the endpoints have been read."""

from __future__ import annotations

from typing import Final

from fastapi import Depends, Request


async def _wait(request: Request) -> None:
    if (endpoints := request.app.state.endpoints) is not None:
        await endpoints.wait_until_read()


ENDPOINTS_READ: Final = Depends(_wait)
