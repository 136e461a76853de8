"""Every durable job event has a handler that projects it into the view."""

from __future__ import annotations

from contracts.events.base import DURABLE, EVENT_CLASSES
from services.gateway.jobs.on_job import HANDLERS


def test_every_durable_job_event_is_projected():
    durable = {name for name, event in EVENT_CLASSES.items() if name.startswith("job.") and event.kind == DURABLE}
    assert set(HANDLERS) == durable
