"""Events of today's stream that a record, an endpoint or a redelivery means: they name epochs of EVENTS. Pure.

What names no epoch was stored by an earlier version, in the first epoch that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from contracts.events.base import Cursor
from kit.bus.lineage import Lineage, StreamPosition
from services.notifier.webhooks.endpoints.endpoint import Endpoint


class EventLineage:
    """The epochs of EVENTS as they were at the start, and what was stored before in other streams."""

    def __init__(
        self,
        events: StreamPosition | None = None,
        records: StreamPosition | None = None,
        endpoints: Iterable[Endpoint] = (),
    ) -> None:
        """``records`` and ``endpoints`` were read before ``events``: an epoch they name is known then, or is lost."""
        self.lineage = events.lineage if events else Lineage()
        self._last = events.last if events else 0
        self._last_record = records.last if records else 0
        self._lost = {endpoint.since_epoch for endpoint in endpoints if not self._is_known(endpoint.since_epoch)}

    @property
    def epoch(self) -> str:
        """Current epoch of EVENTS."""
        return self.lineage.current.id

    def since(self, endpoint: Endpoint) -> int:
        """Return the sequence after which an endpoint gets events; 0 if it was made for a stream that is lost."""
        if endpoint.since_epoch:
            return self.shared(endpoint.since_epoch, endpoint.since_sequence)
        if endpoint.since_sequence > self._last and len(self.lineage.epochs) == 1:
            return 0  # of an earlier incarnation of the stream
        first = self.lineage.epochs[0].id if self.lineage.epochs else ""
        return self.lineage.shared_with(Cursor(first, endpoint.since_sequence))

    def as_of_today(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint with the position in today's stream after which it gets events."""
        since = self.since(endpoint)
        return endpoint if since == endpoint.since_sequence else replace(endpoint, since_sequence=since)

    def shared(self, epoch: str | None, sequence: int) -> int:
        """Return the last sequence, at most this one of an epoch, up to which the events are those of today."""
        return sequence if not epoch else self.lineage.shared_with(Cursor(epoch, sequence))

    def has(self, epoch: str | None, sequence: int) -> bool:
        """Return whether an event is in the stream today, or expired from it."""
        return not epoch or self.lineage.position_of(Cursor(epoch, sequence)) is not None

    def is_ahead(self, epoch: str | None, record: int) -> bool:
        """Return whether a record names an epoch that began after the start: this process must start again."""
        return record > self._last_record and not self._is_known(epoch)

    def endpoint_is_ahead(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint names an epoch that began after the start."""
        return bool(self.lineage.epochs) and not (
            self._is_known(endpoint.since_epoch) or endpoint.since_epoch in self._lost
        )

    def _is_known(self, epoch: str | None) -> bool:
        return not epoch or any(known.id == epoch for known in self.lineage.epochs)
