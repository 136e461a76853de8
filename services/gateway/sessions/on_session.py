"""Projection of session events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import Envelope
from contracts.events import session as events
from contracts.session import Session, fold
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.view import GatewayView


class SessionProjector:
    """Applies each session event to the view."""

    def __init__(self, view: GatewayView, waiters: CompletionWaiters, reconcile_later: Callable[[str], None]) -> None:
        """``reconcile_later`` is called with the id of a session whose opening or stop may be left unfinished."""
        self.view = view
        self.waiters = waiters
        self.reconcile_later = reconcile_later


Handler = Callable[[SessionProjector, Envelope, int], object]


def changed(projector: SessionProjector, envelope: Envelope, sequence: int) -> Session | None:
    """Fold the event into the session and return it; None if it is a repeat or the first event is not stored."""
    session = fold(projector.view.session(envelope.subject), envelope, sequence)
    if session is None or session.sequence != sequence:
        return None
    projector.view.keep_session(session)
    return session


def action_begun(projector: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event, and have it finished by this process if the gateway that published it dies."""
    if (session := changed(projector, envelope, sequence)) and not session.state.ended:
        projector.reconcile_later(session.id)


def text_given(projector: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event and resume requests that wait for the answer to a question."""
    session = changed(projector, envelope, sequence)
    if session and session.text and session.text.prompt_id:
        projector.waiters.notify(session.text.prompt_id)


def ended(projector: SessionProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event and resume requests that wait for the end, or for an answer that does not come any more."""
    if session := changed(projector, envelope, sequence):
        for subject_id in (session.id, *(prompt.prompt_id for prompt in session.prompts)):
            projector.waiters.notify(subject_id)


#: Every durable session event (tests/unit/services/gateway/sessions/test_on_session.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.SessionOpened.type: action_begun,
    events.SessionReady.type: changed,
    events.SessionStarted.type: changed,
    events.SessionStopRequested.type: action_begun,
    events.SessionResetRequested.type: changed,
    events.SessionChunkExported.type: changed,
    events.SessionText.type: text_given,
    events.SessionAlert.type: changed,
    events.SessionPromptRequested.type: changed,
    events.SessionCancelRequested.type: changed,
    events.SessionStopped.type: ended,
    events.SessionFailed.type: ended,
}
