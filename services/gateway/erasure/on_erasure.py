"""Projection of erasures: rows of what was erased are deleted from the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.erasure import sha256_of
from contracts.events import Envelope
from contracts.events import erasure as events
from services.gateway.aggregates.view import GatewayView

Handler = Callable[[GatewayView, Envelope, int], None]


def completed(view: GatewayView, envelope: Envelope, _: int) -> None:
    """Delete the rows of the tenant, or of the jobs and the upload."""
    data = events.ErasureCompleted.model_validate(envelope.data)
    rows, jobs = view.erasures, set(data.jobs_sha256)
    if data.scope == "tenant":
        rows.delete_tenant(lambda tenant: sha256_of(tenant) == data.tenant_sha256, data.until_sequence, data.until_time)
        return
    if jobs:
        rows.delete_jobs(lambda job_id: sha256_of(job_id) in jobs)
    if data.upload_sha256:
        rows.delete_uploads(lambda upload_id: sha256_of(upload_id) == data.upload_sha256)


#: Every event of erasures.
HANDLERS: Final[Mapping[str, Handler]] = {events.ErasureCompleted.type: completed}
