"""What every route works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Request

if TYPE_CHECKING:
    from services.gateway.app import Gateway


def gateway_of(request: Request) -> Gateway:
    """Give what the routes work with."""
    gateway: Gateway = request.app.state.gateway
    return gateway
