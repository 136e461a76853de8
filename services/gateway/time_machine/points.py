"""Points of the history: the text that a client sends as ``at`` stands for one sequence of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import Query

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from kit.bus.tail import EventTail
from kit.history.event_lines import parse_timestamp
from kit.history.history import History
from kit.http.point_in_time import PointText, parse_point

#: Errors of an answer as of a point of the history.
PAST_ERRORS: Final = (
    ErrorCode.POINT_IN_FUTURE,
    ErrorCode.POINT_UNKNOWN,
    ErrorCode.NOT_CREATED_YET,
    ErrorCode.HISTORY_EXPIRED,
)
#: A time is settled when it is so long ago that no clock of a server is behind it: no event gets such a time any more.
_SETTLED_S: Final = 60.0
_MICROSECOND: Final = timedelta(microseconds=1)


def point_query(description: str) -> Any:
    """Return the query parameter of a point of the history, for ``Annotated``."""
    return Query(description=f"{description}: a cursor, an RFC 3339 time or seconds before now.")


AtQuery = Annotated[PointText | None, point_query("Answer as of this point")]
ChangesSince = Annotated[PointText, point_query("Changes after this point")]
ChangesUntil = Annotated[PointText | None, point_query("Changes up to this point; by default, up to now")]


@dataclass(frozen=True)
class Point:
    """A point of the history: every event up to a sequence, and none after it."""

    sequence: int
    cursor: str
    #: The time that was asked for, else that of the event at the sequence; None if that one is not stored any more.
    time: datetime | None
    #: No event can come in between any more: what is true of the point stays true.
    settled: bool = True


class PointsInTime:
    """Finds the points of the history of one stream."""

    def __init__(self, history: History, tail: EventTail) -> None:
        """``tail`` follows the stream of ``history``."""
        self._history, self._tail = history, tail

    async def point(self, name: str, text: str) -> Point:
        """Return the point that a query parameter names. A time includes the events that were stored at it.

        Raises:
            SaccadeError: INVALID_PARAMETER, POINT_IN_FUTURE, POINT_UNKNOWN, BUS_UNAVAILABLE.
        """
        now = datetime.now(UTC)
        asked = parse_point(name, text, now)
        if isinstance(asked, Cursor):
            return await self._at_cursor(name, asked)
        if asked > now:
            message = f"{name}: {asked.isoformat()} has not come yet."
            raise SaccadeError(ErrorCode.POINT_IN_FUTURE, message)
        sequence = await self._history.sequence_before(asked + _MICROSECOND)
        return Point(sequence, self._cursor(sequence), asked, (now - asked).total_seconds() >= _SETTLED_S)

    async def at(self, sequence: int) -> Point:
        """Return the point of a sequence of today's stream.

        Raises:
            SaccadeError: POINT_IN_FUTURE, BUS_UNAVAILABLE.
        """
        return await self._at_cursor("cursor", Cursor(self._tail.epoch, sequence))

    async def window(self, since: str, until: str | None) -> tuple[Point, Point]:
        """Return the points that ``since`` and ``until`` name; without ``until``, that of the newest event.

        Raises:
            SaccadeError: as ``point``; INVALID_PARAMETER, if it ends before it begins.
        """
        last = await self.point("until", until) if until is not None else await self.newest()
        first = await self.point("since", since)
        if first.sequence > last.sequence:
            message = f"since is the later point ({first.cursor}), until the earlier one ({last.cursor})."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Exchange the two.")
        return first, last

    async def newest(self) -> Point:
        """Return the point of the newest event.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.at((await self._history.bounds()).last)

    async def _at_cursor(self, name: str, cursor: Cursor) -> Point:
        sequence = self._tail.lineage.position_of(cursor)
        if sequence is None:
            message = f"{name}: {cursor} belongs to a history that this server does not continue."
            raise SaccadeError(ErrorCode.POINT_UNKNOWN, message)
        if sequence > self._tail.last and sequence > (await self._history.bounds()).last:
            raise SaccadeError(ErrorCode.POINT_IN_FUTURE, f"{name}: there is no event {cursor} yet.")
        return Point(sequence, self._cursor(sequence), await self._time_of(sequence) if sequence else None)

    async def _time_of(self, sequence: int) -> datetime | None:
        """Return when an event was stored; None if it is not stored any more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        found, _ = await self._tail.store.batch(sequence - 1, size=1, with_headers=True)
        if found and found[0].sequence == sequence:
            return parse_timestamp(found[0].headers["Nats-Time-Stamp"])
        try:
            event = await self._history.first(sequence - 1, sequence)
            return event.time if event else None
        except SaccadeError as error:
            if error.code is ErrorCode.HISTORY_EXPIRED:
                return None
            raise

    def _cursor(self, sequence: int) -> str:
        return str(Cursor(self._tail.epoch, sequence))
