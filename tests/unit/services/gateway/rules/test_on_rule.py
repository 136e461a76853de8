"""Every durable rule event has a handler that projects it into the view."""

from __future__ import annotations

from contracts.events.base import DURABLE, EVENT_CLASSES
from services.gateway.rules.on_rule import HANDLERS


def test_every_durable_rule_event_is_projected() -> None:
    durable = {name for name, event in EVENT_CLASSES.items() if name.startswith("rule.") and event.kind == DURABLE}
    assert set(HANDLERS) == durable
