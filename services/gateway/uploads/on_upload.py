"""Projection of upload events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import Envelope
from contracts.events import upload as events
from contracts.upload import Upload, fold
from services.gateway.aggregates.view import GatewayView


class UploadProjector:
    """Applies each upload event to the view."""

    def __init__(self, view: GatewayView, *on_change: Callable[[Upload], None]) -> None:
        """Write to ``view``, then call ``on_change`` with the changed upload."""
        self.view = view
        self.on_change = on_change


Handler = Callable[[UploadProjector, Envelope, int], None]


def changed(projector: UploadProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event into the upload."""
    if upload := fold(projector.view.upload(envelope.subject), envelope, sequence):
        projector.view.keep_upload(upload)
        for notify in projector.on_change:
            notify(upload)


#: Every upload event (tests/unit/services/gateway/uploads/test_on_upload.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.UploadCreated.type: changed,
    events.UploadCompleted.type: changed,
    events.UploadFailed.type: changed,
}
