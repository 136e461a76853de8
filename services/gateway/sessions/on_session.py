"""What the view makes of each event of a session, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contracts.events import Envelope
from contracts.session import Session, fold
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.view import GatewayView


class SessionProjector:
    """The session's part of the view."""

    def __init__(self, view: GatewayView, waiting: CompletionWaiters, look_at: Callable[[str], None]) -> None:
        """Write into ``view``; wake those who wait for the end, and have a session looked at that may need a hand."""
        self.view = view
        self.waiting = waiting
        self.look_at = look_at

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Take over one event; types that this version does not know are left alone."""
        if reaction := _REACTIONS.get(envelope.type):
            reaction(self, envelope, sequence)

    def take(self, envelope: Envelope, sequence: int) -> Session | None:
        """Fold one event into the view's session; None when it is no news, or the session's beginning is gone."""
        session = fold(self.view.session(envelope.subject), envelope, sequence)
        if session is None or session.sequence != sequence:
            return None
        self.view.keep_session(session)
        return session


def changed(on: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Bring the session up to date."""
    on.take(envelope, sequence)


def begun(on: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Bring the session up to date; whoever asked may die before all that belongs to it is done."""
    if (session := on.take(envelope, sequence)) and not session.state.ended:
        on.look_at(session.id)


def ended(on: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Bring the session up to date and wake those who wait for its end."""
    if session := on.take(envelope, sequence):
        on.waiting.ended(session.id)


Reaction = Callable[[SessionProjector, Envelope, int], None]

_REACTIONS: Final[dict[str, Reaction]] = {
    "session.opened": begun,
    "session.ready": changed,
    "session.started": changed,
    "session.stop_requested": begun,
    "session.reset_requested": changed,
    "session.chunk_exported": changed,
    "session.text": changed,
    "session.stopped": ended,
    "session.failed": ended,
}
