"""Points of the history and changes between two, as pydantic models; and the base of all models of the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Shown(BaseModel):
    """Object of the API; unknown fields of newer servers are kept."""

    model_config = ConfigDict(extra="allow")


class PointView(Shown):
    """Point of the history that an answer describes."""

    cursor: str
    #: The time that was asked for, else that of the event at ``cursor``.
    time: str | None = None
    #: The files that it had then were deleted since.
    files_removed: bool = False


class IncompleteView(Shown):
    """Position up to which a list goes that was answered before the server had read its history."""

    #: Cursor of the newest event that the list takes into account.
    read_to: str
    #: Events of all tenants after it.
    events_missing: int


class FieldChange(Shown):
    """A field with another value."""

    #: JSON pointer into the object: ``/cost/actual_usd``.
    pointer: str
    before: Any = None
    after: Any = None


class EventView(Shown):
    """An event between two points of the history; ``event`` is its envelope."""

    cursor: str
    event: dict[str, Any]


class ChangesView(Shown):
    """Changes of a job or session between two points of the history."""

    id: str
    since: PointView
    until: PointView
    #: Whether it existed at ``since`` already.
    existed: bool
    changed: list[FieldChange]
    #: Cost that was settled in between.
    cost_usd: float
    events: list[EventView]
    #: Number of later events that are not listed.
    events_left_out: int = 0
