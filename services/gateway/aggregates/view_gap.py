"""Gap between the view and the stream while it catches up: the view lacks nothing of a tenant without newer events."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from pydantic import BaseModel, Field

from contracts.audit import SYSTEM
from contracts.erasure import NOUN as ERASURE
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.streams import aggregate
from kit.bus.lineage import StreamPosition, position_of_stream
from services.gateway.aggregates.view_follower import ViewFollower

#: Subjects of the erasures of all tenants.
ERASURES_OF_ALL: Final = aggregate(SYSTEM, ERASURE, "*")


class Incomplete(BaseModel):
    """Position up to which a list goes that was answered before the gateway had read its history."""

    read_to: str = Field(description="Cursor of the newest event that the list takes into account.")
    events_missing: int = Field(ge=0, description="Events of all tenants after it, most of which are not the caller's.")


IncompleteField = Annotated[
    Incomplete | None,
    Field(
        description="While the gateway reads its history, and has not read all events of the caller: how far the "
        "list goes. Null: nothing is missing.",
    ),
]
IncompleteQuery = Annotated[
    bool,
    Query(
        description="While the gateway reads its history: answer with what it has read so far, and say in `incomplete` "
        "how far that is, instead of 503 `starting`."
    ),
]


class ViewGap:
    """The events between the view's position and the end of the stream."""

    def __init__(self, follower: ViewFollower) -> None:
        """Compare the view of ``follower`` with its stream."""
        self._view, self._tail = follower.view, follower.tail
        #: By tenant: a sequence up to which the stream has no events of it that the view lacks.
        self._none_until: dict[str, int] = {}
        #: By tenant: the sequence of an event that the view lacked.
        self._next: dict[str, int] = {}

    @property
    def is_open(self) -> bool:
        """Whether the view is behind the stream, since the start of the process."""
        return not self._tail.caught_up.is_set()

    async def lacks(self, tenant: str) -> bool:
        """Return whether the view may lack an event of a tenant that was stored before this call.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if not self.is_open:
            return False
        if not self._tail.epoch:
            return True  # the view may be that of another stream
        position = self._view.sequence
        if self._next.get(tenant, 0) > position:
            return True
        before = await self._position()
        after = max(position, self._none_until.get(tenant, 0))
        for subjects in (aggregate(tenant, "*", "*"), ERASURES_OF_ALL):
            found, _ = await self._tail.store.batch(after, subjects, size=1)
            if found:
                self._next[tenant] = found[0].sequence
                return True
        now = await self._position()  # what was deleted meanwhile is in the archive
        if now.first > position + 1 or before.last < position:
            return True
        self._none_until[tenant] = before.last
        return False

    async def incomplete(self, tenant: str) -> Incomplete | None:
        """Return how far the view is for a list of a tenant; None if it lacks nothing of it.

        Raises:
            SaccadeError: STARTING: the view may have what was erased since, or be of another stream; BUS_UNAVAILABLE.
        """
        if not await self.lacks(tenant):
            return None
        stream, position = await self._position(), self._view.sequence
        began_after, began_until = self._tail.history
        if not self._tail.epoch or stream.last < position or (began_after and stream.first > position + 1):
            raise self.refusal()
        # What this process has folded was not erased before it began.
        after = position if began_after else max(position, began_until)
        erased, _ = await self._tail.store.batch(after, ERASURES_OF_ALL, size=1)
        if erased:
            raise self.refusal()
        return Incomplete(read_to=str(Cursor(self._tail.epoch, position)), events_missing=stream.last - position)

    def refusal(self) -> SaccadeError:
        """Return the error of a request that has to wait for the view."""
        reading = self._tail.reading() or "It has read its history just now."
        return SaccadeError(ErrorCode.STARTING, f"The gateway is starting. {reading}")

    async def _position(self) -> StreamPosition:
        """Return where the stream is.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await position_of_stream(self._tail.store.client, self._tail.store.stream)
