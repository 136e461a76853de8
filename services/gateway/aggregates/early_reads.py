"""Answers about single objects while the view catches up: exact, from the events of the object itself.

They are folded by the projectors of the view, into a view of their own that has nothing else; so an answer is the same
as after the history was read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from typing import Annotated, Final, TypeVar

from contracts.events.base import decode_at
from kit.history.history import History
from kit.http.app_state import from_app_state
from services.gateway.aggregates.own_events import OwnEvents
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import Projector, ViewFollower
from services.gateway.aggregates.view_gap import Incomplete, ViewGap

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Objects that are read at the same time for one answer.
_AT_ONCE: Final = 8
#: A request that waits for the end of an object reads its events so often, until the view has caught up.
_POLL_S: Final = 1.0


class PartialView:
    """A view of a few objects, each with all of its events."""

    def __init__(self, view: GatewayView, events: OwnEvents, projectors: Mapping[str, Projector], tenant: str) -> None:
        """Fold the events of a tenant's objects into an empty ``view`` by the projectors of their nouns."""
        self.view, self._events, self._projectors, self._tenant = view, events, projectors, tenant

    async def add(self, noun: str, *subject_ids: str) -> None:
        """Fold objects of one noun, those that exist.

        Raises:
            SaccadeError: STARTING: what became of one is known only after the history was read; BUS_UNAVAILABLE,
                STORAGE_UNAVAILABLE.
        """
        slots = asyncio.Semaphore(_AT_ONCE)

        async def add(subject_id: str) -> None:
            async with slots:
                found = await self._events.read(noun, self._tenant, subject_id)
            for stored in found:
                self.view.set_position(stored.sequence, stored.stored_at)
                try:
                    self._projectors[noun](decode_at(stored.subject, stored.body), stored.sequence)
                except ValueError:  # a dead letter of the view, which leaves it out too
                    log.warning("event %d cannot be read", stored.sequence)

        await asyncio.gather(*map(add, subject_ids))


class EarlyReads:
    """Reads while the view catches up."""

    def __init__(
        self,
        follower: ViewFollower,
        history: History,
        projectors: Callable[[GatewayView], Mapping[str, Projector]],
    ) -> None:
        """``projectors`` returns those that fold into a view, and do nothing else."""
        self.gap = ViewGap(follower)
        self._tail = follower.tail
        self._events = OwnEvents(follower.tail.store, history)
        self._projectors = projectors

    @property
    def needed(self) -> bool:
        """Whether the view is behind, so that an object has to be read from its own events."""
        return self.gap.is_open

    async def missing(self, tenant: str, *, allowed: bool) -> Incomplete | None:
        """Return how far the view is for a list of a tenant; None if it lacks nothing of it.

        Raises:
            SaccadeError: STARTING: it lacks something, and the caller has not allowed that, or what it has may have
                been erased since; BUS_UNAVAILABLE.
        """
        if not self.needed:
            return None
        if allowed:
            return await self.gap.incomplete(tenant)
        if await self.gap.lacks(tenant):
            raise self.gap.refusal()
        return None

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[PartialView]:
        """Return an empty view for objects of a tenant, which is closed at the end.

        Raises:
            SaccadeError: STARTING: the epoch of the stream's cursors is not known yet.
        """
        if not self._tail.epoch:
            raise self.gap.refusal()
        with closing(GatewayView(None)) as view:
            yield PartialView(view, self._events, self._projectors(view), tenant)

    async def answer(
        self, read: Callable[[Callable[[], bool]], Awaitable[T | None]], wait_s: float
    ) -> tuple[T | None, float]:
        """Return what ``read`` finds of an object for a request that waits at most ``wait_s`` for its end.

        ``read`` is given whether that time is over, and returns None to be called again. None, and the seconds that are
        left: the view has caught up.

        Raises:
            SaccadeError: as ``read``.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_s
        while self.needed:
            if (found := await read(lambda: loop.time() >= end)) is not None:
                return found, 0.0
            with suppress(TimeoutError):
                async with asyncio.timeout(min(end - loop.time(), _POLL_S)):
                    await self._tail.caught_up.wait()
        return None, max(0.0, end - loop.time())


EarlyReadsDep = Annotated[EarlyReads, from_app_state("early_reads")]
