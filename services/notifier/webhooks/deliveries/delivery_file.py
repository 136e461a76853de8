"""SQLite file of the deliveries' projection: its schema and its position in each stream.

It can be deleted at any time: it is rebuilt from the streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from contracts.events.base import Cursor
from kit.projection_file import ProjectionFile

#: Increased with every change of the tables or of what is stored in them: an older file is deleted.
_VERSION: Final = 4
_SCHEMA: Final = """
CREATE TABLE position (
    one INTEGER PRIMARY KEY CHECK (one = 1), events_epoch TEXT NOT NULL, planned INTEGER NOT NULL,
    records_epoch TEXT NOT NULL, recorded INTEGER NOT NULL
);
INSERT INTO position VALUES (1, '', 0, '', 0);
CREATE TABLE deliveries (
    endpoint_id TEXT NOT NULL, sequence INTEGER NOT NULL, tenant TEXT NOT NULL, lane TEXT NOT NULL,
    event_id TEXT NOT NULL, event_type TEXT NOT NULL, event_subject TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, scheduled_from INTEGER NOT NULL, due_us INTEGER NOT NULL,
    last_status INTEGER, last_error TEXT, updated_us INTEGER NOT NULL,
    asked INTEGER NOT NULL, last_record INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, sequence)
) WITHOUT ROWID;
CREATE INDEX deliveries_by_state ON deliveries (endpoint_id, state, sequence);
CREATE INDEX deliveries_pending ON deliveries (sequence) WHERE state = 'pending';
CREATE INDEX deliveries_due ON deliveries (lane, due_us, sequence) WHERE state = 'pending';
CREATE INDEX deliveries_of_subject ON deliveries (endpoint_id, event_subject, sequence) WHERE state = 'pending';
CREATE INDEX deliveries_unrecorded ON deliveries (sequence) WHERE state = 'pending' AND attempts = 0 AND asked = 0;
CREATE INDEX deliveries_by_record ON deliveries (last_record) WHERE state <> 'pending';
CREATE TABLE attempts (
    endpoint_id TEXT NOT NULL, sequence INTEGER NOT NULL, attempt INTEGER NOT NULL, record INTEGER NOT NULL,
    at_us INTEGER NOT NULL, status INTEGER, error TEXT, latency_ms REAL NOT NULL, excerpt TEXT NOT NULL,
    next_us INTEGER, url_origin TEXT NOT NULL, signed_at INTEGER, signature TEXT,
    PRIMARY KEY (endpoint_id, sequence, attempt)
) WITHOUT ROWID;
CREATE INDEX attempts_by_record ON attempts (record);
CREATE TABLE job_urls (
    job_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, url TEXT NOT NULL, sequence INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE health (
    endpoint_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, failing_since_us INTEGER NOT NULL,
    failed_us INTEGER NOT NULL, status INTEGER, gone INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE planned_endpoints (
    endpoint_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE redeliveries (record INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE gaps (until INTEGER PRIMARY KEY, after INTEGER NOT NULL);
"""
_TABLES: Final = ("deliveries", "attempts", "job_urls", "health", "planned_endpoints", "redeliveries", "gaps")


def to_us(moment: datetime) -> int:
    """Return a time as stored: Unix microseconds."""
    return round(moment.timestamp() * 1_000_000)


def from_us(us: int) -> datetime:
    """Return the time of stored Unix microseconds."""
    return datetime.fromtimestamp(us / 1_000_000, UTC)


class DeliveryFile(ProjectionFile):
    """The file; ``planned`` is the position in EVENTS, ``recorded`` the one in DELIVERIES."""

    def __init__(self, folder: Path | None) -> None:
        """Open the file in a folder, or create it; without a folder, in memory.

        Raises:
            OSError, sqlite3.OperationalError: the folder cannot be written, or another process has the file open.
        """
        path = None if folder is None else folder / "deliveries.sqlite3"
        super().__init__(path, _SCHEMA, _VERSION)
        self.events_epoch, self.records_epoch, self.planned, self.recorded, self.dirty = "", "", 0, 0, False
        #: Number of pending deliveries, counted as they change; None: they must be counted anew.
        self.pending: int | None = None
        self._read_position()

    def _read_position(self) -> None:
        query = "SELECT events_epoch, planned, records_epoch, recorded FROM position"
        self.events_epoch, self.planned, self.records_epoch, self.recorded = self.rows(query)[0]
        self.dirty = False

    def count_pending(self, change: int) -> None:
        """Take note of so many more pending deliveries."""
        if self.pending is not None:
            self.pending += change

    def reopen_in_memory(self) -> None:
        """Replace a file that cannot be written by an empty database in memory."""
        super().reopen_in_memory()
        self.pending = None
        self._read_position()

    def reset(self, events_epoch: str, records_epoch: str) -> None:
        """Delete all rows: they are rebuilt from the streams."""
        for table in _TABLES:
            self.write(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
        self.events_epoch, self.records_epoch = events_epoch, records_epoch
        self.planned, self.recorded, self.pending = 0, 0, None

    def rewind(self, events: Cursor, records: Cursor, fork: int | None) -> None:
        """Go on from positions in streams that were restored: what was about events after ``fork`` is removed.

        Attempts whose records are lost were made all the same: they are kept, as older than all records to come.
        """
        if fork is not None:
            for table in ("deliveries", "attempts", "job_urls"):
                self.write(f"DELETE FROM {table} WHERE sequence > ?", (fork,))  # noqa: S608 - names from the line above
            self.write("UPDATE planned_endpoints SET since = min(since, ?)", (fork,))
            self.write("DELETE FROM gaps WHERE after >= ?", (fork,))
            self.write("UPDATE OR REPLACE gaps SET until = min(until, ?)", (fork,))
        if records.sequence < self.recorded:
            lost = (records.sequence, records.sequence)
            self.write("UPDATE deliveries SET last_record = min(last_record, ?), asked = min(asked, ?)", lost)
            self.write("UPDATE attempts SET record = min(record, ?)", lost[:1])
            self.write("DELETE FROM redeliveries WHERE record > ?", lost[:1])
        self.events_epoch, self.records_epoch, self.pending = events.epoch, records.epoch, None
        self.advance(planned=events.sequence, recorded=records.sequence)

    def advance(self, *, planned: int | None = None, recorded: int | None = None) -> None:
        """Set the position in EVENTS or in DELIVERIES; stored with the next commit."""
        self.planned = self.planned if planned is None else planned
        self.recorded = self.recorded if recorded is None else recorded
        self.dirty = True

    def commit(self) -> None:
        """Commit what was written since the last commit.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; the file must be opened again.
        """
        if not self.dirty or self.held():
            return
        position = (self.events_epoch, self.planned, self.records_epoch, self.recorded)
        self.write("UPDATE position SET events_epoch = ?, planned = ?, records_epoch = ?, recorded = ?", position)
        super().commit()
        self.dirty = False

    def close(self) -> None:
        """Commit and close.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; the rows are rebuilt at the next start.
        """
        try:
            self.commit()
        finally:
            super().close()

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Write inside the transaction and return the number of changed rows."""
        changed = super().write(statement, values)
        self.dirty = True
        return changed

    def all_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table, to compare two projections in tests."""
        return {table: self.rows(f"SELECT * FROM {table}") for table in _TABLES}  # noqa: S608 - names from above
