"""Record of each publish: its span, and a count of those that were not stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from contracts.errors import SaccadeError
from contracts.events.base import Message
from kit.bus.stored_event import Conflict
from kit.counts import count
from kit.tracing import recorded_publish


@contextmanager
def recorded(stream: str, message: Message) -> Iterator[None]:
    """Record the publish that is done inside."""
    try:
        with recorded_publish(message.subject, message.id):
            yield
    except Conflict:
        count("saccade_publish_conflicts", stream)
        raise
    except SaccadeError:
        count("saccade_publish_failures", stream)
        raise
