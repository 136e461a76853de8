"""JSON bodies of the time machine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class AsOf(BaseModel):
    """Point of the history that an answer describes: every event up to it, and none after it."""

    cursor: str = Field(description="Send it as `at` to get the same answer again.")
    time: datetime | None = Field(
        description="The time that was asked for, else that of the event at `cursor`; null if that one is not stored "
        "any more."
    )
    files_removed: bool = Field(
        default=False, description="The files that it had then were deleted since: `report` is left out."
    )


class ChangedField(BaseModel):
    """A field with another value; null where it was absent."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the object.", examples=["/cost/actual_usd"])
    before: Any
    after: Any


class EventBetween(BaseModel):
    """An event between two points."""

    cursor: str
    event: dict[str, Any] = Field(description="The CloudEvent, as the event streams send it.")


class Changes(BaseModel):
    """Changes between two points of the history."""

    id: str
    since: AsOf
    until: AsOf
    existed: bool = Field(description="Whether it existed at `since` already; otherwise every field has changed.")
    changed: list[ChangedField]
    cost_usd: float = Field(description="Cost that was settled in between.")
    events: list[EventBetween] = Field(description="Oldest first; of a pipeline, also those of its stages' jobs.")
    events_left_out: int = Field(description="Number of later events that are not listed: read them with `/events`.")
