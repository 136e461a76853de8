"""Deletes the rows of what was erased from the projection of deliveries."""

from __future__ import annotations

from contracts.erasure import sha256_of
from contracts.events.base import decode
from contracts.events.erasure import ErasureCompleted
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.erased_records import is_among, subjects_of

#: Column of each table that says which event a row is about, or follows: what is newer is of a new tenant of that name.
_OF_TENANT = {"deliveries": "sequence", "planned_endpoints": "since", "job_urls": "sequence", "health": "0"}


def erase_deliveries(file: DeliveryFile, erasure: ErasureCompleted) -> None:
    """Delete what the event ``erasure.completed`` names.

    Raises:
        sqlite3.Error: the disk does not accept a write.
    """
    if erasure.scope == "tenant":
        _erase_tenant(file, erasure.tenant_sha256, erasure.until_sequence)
    else:
        _erase_subjects(file, subjects_of(erasure))
    file.pending = None
    file.rewrite_at_commit()
    file.commit()


def _erase_tenant(file: DeliveryFile, tenant_sha256: str, until: int) -> None:
    for table, column in _OF_TENANT.items():
        for (tenant,) in file.rows(f"SELECT DISTINCT tenant FROM {table}"):  # noqa: S608 - names from above
            if sha256_of(tenant) != tenant_sha256:
                continue
            of_tenant = f"FROM {table} WHERE tenant = ? AND {column} <= ?"
            if table == "deliveries":
                rows = f"SELECT endpoint_id, sequence {of_tenant}"
                file.write(f"DELETE FROM attempts WHERE (endpoint_id, sequence) IN ({rows})", (tenant, until))  # noqa: S608
            file.write(f"DELETE {of_tenant}", (tenant, until))
    for record, body in file.rows("SELECT record, body FROM redeliveries"):
        if sha256_of(decode(body).tenant) == tenant_sha256:
            file.write("DELETE FROM redeliveries WHERE record = ?", (record,))


def _erase_subjects(file: DeliveryFile, hashes: set[str]) -> None:
    for (subject,) in file.rows("SELECT DISTINCT event_subject FROM deliveries"):
        if is_among(hashes, subject):
            found = "SELECT endpoint_id, sequence FROM deliveries WHERE event_subject = ?"
            file.write(f"DELETE FROM attempts WHERE (endpoint_id, sequence) IN ({found})", (subject,))  # noqa: S608
            file.write("DELETE FROM deliveries WHERE event_subject = ?", (subject,))
    # Of all jobs: a URL, and that it fails, is kept for longer than the deliveries to it.
    for table, column in (("job_urls", "job_id"), ("health", "endpoint_id")):
        for (job_id,) in file.rows(f"SELECT {column} FROM {table}"):  # noqa: S608 - names from the line above
            if is_among(hashes, job_id):
                file.write(f"DELETE FROM {table} WHERE {column} = ?", (job_id,))  # noqa: S608
