"""SQLite tables about receivers: runs of failures, jobs' own URLs, backfilled endpoints, and open redeliveries."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.notifier.webhooks.deliveries.delivery import FailureRun
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile, from_us, to_us

#: A longer pause between two failures starts a new run: one bad event a week does not make an endpoint dead.
PAUSE: Final = timedelta(hours=24)


class ReceiverTables:
    """Receivers of the projection; all calls are short and made in the event loop."""

    def __init__(self, file: DeliveryFile) -> None:
        """Use an open file."""
        self._file = file

    # -- failures

    def record_success(self, endpoint_id: str) -> None:
        """End an endpoint's run of failures."""
        self._file.write("DELETE FROM health WHERE endpoint_id = ?", (endpoint_id,))

    def record_failure(self, endpoint_id: str, tenant: str, at: datetime, status: int | None, *, gone: bool) -> None:
        """Add a failed attempt to an endpoint's run of failures."""
        known = self.failure_run(endpoint_id)
        since = known.failing_since if known and at - known.failed_at <= PAUSE else at
        values = (endpoint_id, tenant, to_us(since), to_us(at), status, gone)
        self._file.write("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?, ?, ?)", values)

    def failure_run(self, endpoint_id: str) -> FailureRun | None:
        """Return an endpoint's run of failures; None when its last attempt did not fail."""
        rows = self._file.rows("SELECT * FROM health WHERE endpoint_id = ?", (endpoint_id,))
        if not rows:
            return None
        _, tenant, since_us, failed_us, status, gone = rows[0]
        return FailureRun(endpoint_id, tenant, from_us(since_us), from_us(failed_us), status, bool(gone))

    def failing_receivers(self) -> list[str]:
        """Return the ids of the receivers whose last attempt failed."""
        return [row[0] for row in self._file.rows("SELECT endpoint_id FROM health")]

    # -- jobs' own URLs

    def store_job_url(self, job_id: str, tenant: str, url: str, sequence: int) -> None:
        """Store the URL that gets a job's events, and the sequence of the event that named it."""
        self._file.write("INSERT OR REPLACE INTO job_urls VALUES (?, ?, ?, ?)", (job_id, tenant, url, sequence))

    def job_url(self, job_id: str, tenant: str) -> str | None:
        """Return the URL that a job named for its events."""
        rows = self._file.rows("SELECT url FROM job_urls WHERE job_id = ? AND tenant = ?", (job_id, tenant))
        return str(rows[0][0]) if rows else None

    def active_job_url(self, job_id: str, tenant: str) -> str | None:
        """Return the URL that a job named for its events, unless it answered 410 (gone)."""
        if (url := self.job_url(job_id, tenant)) is None:
            return None
        failures = self.failure_run(job_id)
        return None if failures is not None and failures.gone else url

    # -- backfilled endpoints: their earlier events are planned

    def planned_since(self, endpoint_id: str) -> int | None:
        """Return the sequence after which events were planned for an endpoint; None when none were yet."""
        rows = self._file.rows("SELECT since FROM planned_endpoints WHERE endpoint_id = ?", (endpoint_id,))
        return int(rows[0][0]) if rows else None

    def store_planned_since(self, endpoint_id: str, tenant: str, since: int) -> None:
        """Store that all events after ``since`` and up to now are planned for an endpoint."""
        self._file.write("INSERT OR REPLACE INTO planned_endpoints VALUES (?, ?, ?)", (endpoint_id, tenant, since))

    def remove_endpoint(self, endpoint_id: str) -> None:
        """Remove the rows of a deleted endpoint."""
        self._file.write("DELETE FROM planned_endpoints WHERE endpoint_id = ?", (endpoint_id,))
        self._file.write("DELETE FROM health WHERE endpoint_id = ?", (endpoint_id,))

    # -- redeliveries that were requested and are not planned yet

    def add_redelivery(self, record: int, body: bytes) -> None:
        """Store a requested redelivery."""
        self._file.write("INSERT OR REPLACE INTO redeliveries VALUES (?, ?)", (record, body))

    def next_redelivery(self, after: int = 0) -> tuple[int, bytes] | None:
        """Return the oldest redelivery after a record that is not planned yet: its record's sequence and body."""
        query = "SELECT record, body FROM redeliveries WHERE record > ? ORDER BY record LIMIT 1"
        rows = self._file.rows(query, (after,))
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else None

    def remove_redelivery(self, record: int) -> None:
        """Remove a redelivery that is planned."""
        self._file.write("DELETE FROM redeliveries WHERE record = ?", (record,))

    def prune(self, event: int, moment: datetime) -> None:
        """Remove jobs whose first event is past retention, and failures before ``moment``."""
        self._file.write("DELETE FROM job_urls WHERE sequence < ?", (event,))
        self._file.write("DELETE FROM health WHERE failed_us < ?", (to_us(moment),))
