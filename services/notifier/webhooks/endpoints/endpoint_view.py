"""What the view knows of receivers: runs of failures, jobs' own URLs, and what is still to be planned for whom."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from services.notifier.webhooks.deliveries.delivery import Health
from services.notifier.webhooks.deliveries.view_file import ViewFile, from_us, to_us

#: A run of failures that pauses for longer than this begins anew: one bad event a week is no dead endpoint.
PAUSE: Final = timedelta(hours=24)


class EndpointView:
    """The receivers of the view; all calls are short and made in the event loop."""

    def __init__(self, file: ViewFile) -> None:
        """Use an open file."""
        self._file = file

    # -- health

    def succeeded(self, endpoint_id: str) -> None:
        """Note that an endpoint took an event."""
        self._file.write("DELETE FROM health WHERE endpoint_id = ?", (endpoint_id,))

    def failed(self, endpoint_id: str, tenant: str, at: datetime, status: int | None, *, gone: bool) -> None:
        """Note that an attempt failed."""
        known = self.health(endpoint_id)
        since = known.failing_since if known and at - known.failed_at <= PAUSE else at
        values = (endpoint_id, tenant, to_us(since), to_us(at), status, gone)
        self._file.write("INSERT OR REPLACE INTO health VALUES (?, ?, ?, ?, ?, ?)", values)

    def health(self, endpoint_id: str) -> Health | None:
        """Give an endpoint's run of failures; None when its last attempt was no failure."""
        rows = self._file.rows("SELECT * FROM health WHERE endpoint_id = ?", (endpoint_id,))
        if not rows:
            return None
        _, tenant, since_us, failed_us, status, gone = rows[0]
        return Health(endpoint_id, tenant, from_us(since_us), from_us(failed_us), status, bool(gone))

    def failing(self) -> list[str]:
        """Name the endpoints whose last attempt failed."""
        return [row[0] for row in self._file.rows("SELECT endpoint_id FROM health")]

    # -- jobs' own URLs

    def keep_job_url(self, job_id: str, tenant: str, url: str, sequence: int) -> None:
        """Remember the URL to which a job's events go, and the event that named it."""
        self._file.write("INSERT OR REPLACE INTO job_urls VALUES (?, ?, ?, ?)", (job_id, tenant, url, sequence))

    def job_url(self, job_id: str, tenant: str) -> str | None:
        """Give the URL to which a job's events go."""
        rows = self._file.rows("SELECT url FROM job_urls WHERE job_id = ? AND tenant = ?", (job_id, tenant))
        return str(rows[0][0]) if rows else None

    # -- from where events were planned for an endpoint

    def planned_since(self, endpoint_id: str) -> int | None:
        """Give after which event those for an endpoint were planned; None when none were yet."""
        rows = self._file.rows("SELECT since FROM planned_endpoints WHERE endpoint_id = ?", (endpoint_id,))
        return int(rows[0][0]) if rows else None

    def keep_planned_since(self, endpoint_id: str, since: int) -> None:
        """Note that all events after ``since`` and up to now were planned for an endpoint."""
        self._file.write("INSERT OR REPLACE INTO planned_endpoints VALUES (?, ?)", (endpoint_id, since))

    def forget(self, endpoint_id: str) -> None:
        """Drop what is known of an endpoint that was deleted."""
        self._file.write("DELETE FROM planned_endpoints WHERE endpoint_id = ?", (endpoint_id,))
        self._file.write("DELETE FROM health WHERE endpoint_id = ?", (endpoint_id,))

    # -- redeliveries that were asked for and are not planned yet

    def keep_redelivery(self, record: int, body: bytes) -> None:
        """Note that a redelivery was asked for."""
        self._file.write("INSERT OR REPLACE INTO redeliveries VALUES (?, ?)", (record, body))

    def redelivery(self) -> tuple[int, bytes] | None:
        """Give the oldest redelivery that is not planned yet."""
        rows = self._file.rows("SELECT record, body FROM redeliveries ORDER BY record LIMIT 1")
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else None

    def redelivery_planned(self, record: int) -> None:
        """Note that a redelivery is planned."""
        self._file.write("DELETE FROM redeliveries WHERE record = ?", (record,))

    def forget_before(self, event: int, moment: datetime) -> None:
        """Drop jobs whose first event is past retention, and failures that are long over."""
        self._file.write("DELETE FROM job_urls WHERE sequence < ?", (event,))
        self._file.write("DELETE FROM health WHERE failed_us < ?", (to_us(moment),))
