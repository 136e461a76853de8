"""Every durable upload event has a handler that projects it into the view."""

from __future__ import annotations

from contracts.events.base import DURABLE, EVENT_CLASSES
from services.gateway.uploads.on_upload import HANDLERS


def test_every_durable_upload_event_is_projected():
    durable = {name for name, event in EVENT_CLASSES.items() if name.startswith("upload.") and event.kind == DURABLE}
    assert set(HANDLERS) == durable
