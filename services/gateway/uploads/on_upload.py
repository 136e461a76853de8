"""What the view makes of each event of an upload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from contracts.events import Envelope
from services.gateway.aggregates.view import GatewayView
from services.gateway.uploads.upload_checks import fold


class UploadProjector:
    """The upload's part of the view."""

    def __init__(self, view: GatewayView) -> None:
        """Write into ``view``."""
        self.view = view

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Take over one event; types that this version does not know are left alone."""
        if reaction := _REACTIONS.get(envelope.type):
            reaction(self, envelope, sequence)


def created(on: UploadProjector, envelope: Envelope, sequence: int) -> None:
    """Begin the upload."""
    if upload := fold(on.view.upload(envelope.subject), envelope, sequence):
        on.view.keep_upload(upload)


def completed(on: UploadProjector, envelope: Envelope, sequence: int) -> None:
    """Make the upload usable."""
    if upload := fold(on.view.upload(envelope.subject), envelope, sequence):
        on.view.keep_upload(upload)


def failed(on: UploadProjector, envelope: Envelope, sequence: int) -> None:
    """End the upload."""
    if upload := fold(on.view.upload(envelope.subject), envelope, sequence):
        on.view.keep_upload(upload)


Reaction = Callable[[UploadProjector, Envelope, int], None]

_REACTIONS: Final[dict[str, Reaction]] = {
    "upload.created": created,
    "upload.completed": completed,
    "upload.failed": failed,
}
