"""Presentation of points of the history, and of the changes between two, for jobs and sessions alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic import BaseModel

from contracts.errors import SaccadeError
from contracts.events.base import Cursor
from kit.bucket import Bucket, ObjectMissing
from kit.history.event_lines import HistoryEvent
from services.gateway.time_machine.difference import changed_fields
from services.gateway.time_machine.points import Point
from services.gateway.time_machine.schemas import AsOf, Changes, EventBetween

#: Events that one answer lists.
_LISTED_EVENTS: Final = 1000


def as_of(point: Point, *, files_removed: bool = False) -> AsOf:
    """Return how a point is presented."""
    return AsOf(cursor=point.cursor, time=point.time, files_removed=files_removed)


async def is_removed(bucket: Bucket, key: str | None) -> bool:
    """Return whether a file that was in the bucket is there no more; False while the bucket does not answer."""
    if key is None:
        return False
    try:
        await bucket.size(key)
    except ObjectMissing:
        return True
    except SaccadeError:
        return False
    return False


def changes_between(
    points: tuple[Point, Point],
    before: BaseModel | None,
    after: BaseModel,
    events: Sequence[HistoryEvent],
    epoch: str,
) -> Changes:
    """Return what changed between two objects, with the events and the cost between them."""
    old: dict[str, Any] | None = before.model_dump(mode="json") if before is not None else None
    new: dict[str, Any] = after.model_dump(mode="json")
    in_order = sorted(events, key=lambda event: event.sequence)
    return Changes(
        id=new["id"],
        since=as_of(points[0]),
        until=as_of(points[1]),
        existed=before is not None,
        changed=changed_fields(old, new),
        cost_usd=round(new["cost"]["actual_usd"] - (old["cost"]["actual_usd"] if old else 0.0), 6),
        events=[
            EventBetween(cursor=str(Cursor(epoch, event.sequence)), event=json.loads(event.body))
            for event in in_order[:_LISTED_EVENTS]
        ],
        events_left_out=max(0, len(in_order) - _LISTED_EVENTS),
    )
