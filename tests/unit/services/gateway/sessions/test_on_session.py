"""Every durable session event has a handler that projects it into the view."""

from __future__ import annotations

from contracts.events.base import DURABLE, EVENT_CLASSES
from services.gateway.sessions.on_session import HANDLERS


def test_every_durable_session_event_is_projected():
    durable = {name for name, event in EVENT_CLASSES.items() if name.startswith("session.") and event.kind == DURABLE}
    assert set(HANDLERS) == durable
