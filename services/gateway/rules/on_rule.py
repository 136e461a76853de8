"""Projection of rule events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import Envelope
from contracts.events import rule as events
from contracts.rule import fold
from services.gateway.aggregates.view import GatewayView

Handler = Callable[[GatewayView, Envelope, int], None]


def changed(view: GatewayView, envelope: Envelope, sequence: int) -> None:
    """Fold the event into the rule."""
    if rule := fold(view.rules.get(envelope.subject), envelope, sequence):
        view.rules.keep(rule)


#: Every rule event (tests/unit/services/gateway/rules/test_on_rule.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.RuleCreated.type: changed,
    events.RuleUpdated.type: changed,
    events.RuleDeleted.type: changed,
    events.RuleSkipped.type: changed,
}
