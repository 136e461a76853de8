"""A replay as the server shows it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ReplayView(BaseModel):
    """A replay; ``plan`` has its count, ``progress`` how far it is. Unknown fields are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str
    tenant: str
    #: planned, running, paused, completed, cancelled, failed or expired.
    state: str
    into: str
    window: dict[str, Any]
    speed: str
    plan: dict[str, Any]
    #: None while it is unknown.
    progress: dict[str, Any] | None = None
    by: str = ""
    why: str = ""
    paused_why: str | None = None
    error: dict[str, Any] | None = None
    planned_at: str
    started_at: str | None = None
    ended_at: str | None = None
    expires_at: str | None = None
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of its events."""
        return int(self.plan["count"])

    @property
    def ended(self) -> bool:
        """Whether it can change no more."""
        return self.state in ("completed", "cancelled", "failed", "expired")
