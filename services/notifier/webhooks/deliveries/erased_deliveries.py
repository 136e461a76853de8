"""Deletes the rows of what was erased from the projection of deliveries."""

from __future__ import annotations

from contracts.erasure import sha256_of
from contracts.events.base import decode_at
from contracts.events.erasure import ErasureCompleted
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile

_OF_TENANT = ("deliveries", "health")


def erase_deliveries(file: DeliveryFile, stored: StoredEvent) -> None:
    """Apply the event ``erasure.completed``.

    Raises:
        ValueError: it cannot be read.
        sqlite3.Error: the disk does not accept a write.
    """
    data = ErasureCompleted.model_validate(decode_at(stored.subject, stored.body).data)
    if data.scope == "tenant":
        _erase_tenant(file, data.tenant_sha256)
    else:
        _erase_subjects(file, {*data.jobs_sha256, *([data.upload_sha256] if data.upload_sha256 else [])})
    file.pending = None
    file.rewrite_at_commit()
    file.commit()


def _erase_tenant(file: DeliveryFile, tenant_sha256: str) -> None:
    for table in _OF_TENANT:
        for (tenant,) in file.rows(f"SELECT DISTINCT tenant FROM {table}"):  # noqa: S608 - names from above
            if sha256_of(tenant) != tenant_sha256:
                continue
            endpoints = f"SELECT endpoint_id FROM {table} WHERE tenant = ?"  # noqa: S608
            for other in ("attempts", "planned_endpoints"):
                file.write(f"DELETE FROM {other} WHERE endpoint_id IN ({endpoints})", (tenant,))  # noqa: S608
            file.write(f"DELETE FROM {table} WHERE tenant = ?", (tenant,))  # noqa: S608
    for (tenant,) in file.rows("SELECT DISTINCT tenant FROM job_urls"):
        if sha256_of(tenant) == tenant_sha256:
            file.write("DELETE FROM job_urls WHERE tenant = ?", (tenant,))


def _erase_subjects(file: DeliveryFile, hashes: set[str]) -> None:
    for (subject,) in file.rows("SELECT DISTINCT event_subject FROM deliveries"):
        if sha256_of(subject) in hashes:
            found = "SELECT endpoint_id, sequence FROM deliveries WHERE event_subject = ?"
            file.write(f"DELETE FROM attempts WHERE (endpoint_id, sequence) IN ({found})", (subject,))  # noqa: S608
            file.write("DELETE FROM deliveries WHERE event_subject = ?", (subject,))
    # Of all jobs: a URL is kept for longer than the deliveries to it.
    for (job_id,) in file.rows("SELECT job_id FROM job_urls"):
        if sha256_of(job_id) in hashes:
            file.write("DELETE FROM job_urls WHERE job_id = ?", (job_id,))
