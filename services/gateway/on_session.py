"""What the view makes of each event of a session, and who is told of it."""

from __future__ import annotations

from collections.abc import Callable

from contracts.events import Envelope
from contracts.session import fold
from services.gateway.view import View
from services.gateway.waiting import Waiting


class OnSession:
    """The session's part of the view."""

    def __init__(self, view: View, waiting: Waiting, look_at: Callable[[str], None]) -> None:
        """Write into ``view``; wake those who wait for the end, and have a session looked at that may need a hand."""
        self.view = view
        self.waiting = waiting
        self.look_at = look_at

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Take over one event."""
        session = fold(self.view.session(envelope.subject), envelope, sequence)
        if session is None or session.sequence != sequence:
            return
        self.view.keep_session(session)
        if session.state.ended:
            self.waiting.ended(session.id)
        elif envelope.type in ("session.opened", "session.stop_requested"):
            self.look_at(session.id)
