"""What every route works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from services.gateway.app import Gateway


def gateway_of(request: Request) -> Gateway:
    """Give what the routes work with."""
    return gateway_behind(request)


def gateway_behind(connection: HTTPConnection) -> Gateway:
    """Give what works behind a request or WebSocket."""
    gateway: Gateway = connection.app.state.gateway
    return gateway
