"""JSON bodies of the routes that accept telemetry."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class FrameReceived(BaseModel):
    """A frame that was passed to the worker, which acknowledges it by `session.frame_acked`."""

    source: str
    seq: int
    status: Literal["received"] = "received"


class JointsReceived(BaseModel):
    """Samples that were passed to the worker, and warnings about implausible values."""

    received: int
    warnings: list[str]


class ServerTime(BaseModel):
    """The server's clock."""

    time_s: float = Field(description="Unix seconds.")
