"""Observers of reactions: metrics and traces are such."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from nats.js.api import ConsumerInfo

from saccade_events.event import Event

#: How a delivery ended: the handler returned; it failed, and the event comes again later; the event became a dead
#: letter; this process had handled it before; the process was told to stop, and another may have the event at once.
Outcome = Literal["handled", "retried", "dead_lettered", "repeated", "interrupted"]


class Observer:
    """Sees what the reactions of a bus do, by the name of their consumer; does nothing by itself."""

    @contextmanager
    def handling(self, consumer: str, event: Event[Any]) -> Iterator[None]:  # noqa: ARG002 - for those that override it
        """Surround the call of a handler; what it raises passes through."""
        yield

    def on_settled(self, consumer: str, outcome: Outcome) -> None:
        """Take how a delivery ended."""

    def on_look(self, consumer: str, info: ConsumerInfo, *, stalled: bool) -> None:
        """Take what the server says of a consumer, every few seconds.

        ``stalled``: there are events for it, nobody handles any, and nobody asks for the next one.
        """
