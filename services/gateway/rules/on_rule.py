"""Projection of rule events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import Envelope
from contracts.events import rule as events
from contracts.rule import fold
from services.gateway.aggregates.view import GatewayView


class RuleProjector:
    """Applies each rule event to the view."""

    def __init__(self, view: GatewayView) -> None:
        """Write to ``view``."""
        self.view = view

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Apply one event; event types unknown to this version are ignored."""
        if handler := HANDLERS.get(envelope.type):
            handler(self, envelope, sequence)


Handler = Callable[[RuleProjector, Envelope, int], None]


def changed(projector: RuleProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event into the rule."""
    if rule := fold(projector.view.rules.get(envelope.subject), envelope, sequence):
        projector.view.rules.keep(rule)


#: Every rule event (tests/unit/services/gateway/rules/test_on_rule.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.RuleCreated.type: changed,
    events.RuleUpdated.type: changed,
    events.RuleDeleted.type: changed,
    events.RuleSkipped.type: changed,
}
