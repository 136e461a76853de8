"""SQLite tables of deliveries and their attempts: planned from EVENTS, updated from DELIVERIES.

Each query uses an index; what is listed for a lane or a page is bounded.
"""
# ruff: noqa: S608 - statements consist of constants of this file; values from outside are bound parameters

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from services.notifier.webhooks.deliveries.delivery import (
    DeliveryAttempt,
    DeliveryState,
    PlannedDelivery,
    TrackedDelivery,
)
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile, from_us, to_us

_SELECT: Final = (
    "SELECT endpoint_id, sequence, tenant, lane, event_id, event_type, event_subject, state, attempts, scheduled_from,"
    " due_us, last_status, last_error, updated_us FROM deliveries"
)
_ONE: Final = " WHERE endpoint_id = ? AND sequence = ?"
_INSERT: Final = "INSERT OR REPLACE INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROW: Final = _INSERT[_INSERT.index("(") :]
_PENDING: Final = " state = 'pending'"


def _delivery(row: Sequence[Any]) -> TrackedDelivery:
    planned, counts, result = row[:7], row[8:10], row[11:13]
    state, due, updated_at = DeliveryState(row[7]), from_us(row[10]), from_us(row[13])
    return TrackedDelivery(*planned, state, *counts, due, *result, updated_at)  # type: ignore[call-arg] # column count


def _attempt(row: Sequence[Any]) -> DeliveryAttempt:
    next_attempt_at = from_us(row[7]) if row[7] else None
    return DeliveryAttempt(row[0], row[1], from_us(row[2]), row[3], row[4], row[5], row[6], next_attempt_at, *row[8:])


def _new_row(planned: PlannedDelivery, due_us: int, asked: int = 0) -> tuple[Any, ...]:
    key = (planned.endpoint_id, planned.sequence, planned.tenant, planned.lane)
    event = (planned.event_id, planned.event_type, planned.event_subject)
    return (*key, *event, "pending", 0, 0, due_us, None, None, due_us, asked, 0)


class DeliveryTables:
    """Deliveries of the projection; all calls are short and made in the event loop."""

    def __init__(self, file: DeliveryFile) -> None:
        """Use an open file."""
        self._file = file

    def delivery(self, endpoint_id: str, sequence: int) -> TrackedDelivery | None:
        """Return one delivery."""
        return self._first(_SELECT + _ONE, (endpoint_id, sequence))

    def add(self, planned: PlannedDelivery, due: datetime) -> bool:
        """Add a pending delivery; return False when it is known.

        A delivery with that sequence but another event belongs to an earlier incarnation of the stream: it is replaced.
        """
        event_id, was_pending = self._standing(planned)
        if event_id == planned.event_id:
            return False
        if event_id is not None:
            self._file.write("DELETE FROM attempts" + _ONE, planned.key)
        self._insert(planned, due)
        self._file.count_pending(1 - was_pending)
        return True

    def add_all(self, planned: Sequence[PlannedDelivery], due: datetime) -> Sequence[PlannedDelivery]:
        """Add pending deliveries as ``add`` does, by one statement where none of them is known; return those added."""
        if not planned:
            return []
        due_us = to_us(due)
        values = [value for plan in planned for value in _new_row(plan, due_us)]
        try:
            self._file.write("INSERT INTO deliveries VALUES " + ", ".join([_ROW] * len(planned)), values)
        except sqlite3.IntegrityError:  # nothing is inserted then: some are known
            return [plan for plan in planned if self.add(plan, due)]
        self._file.count_pending(len(planned))
        return planned

    def record_attempt(self, planned: PlannedDelivery, attempt: DeliveryAttempt, state: DeliveryState) -> None:
        """Add an attempt and set the state of its delivery."""
        event_id, was_pending = self._standing(planned)
        if event_id != planned.event_id:
            self._insert(planned, attempt.at)
        next_us = to_us(attempt.next_attempt_at) if attempt.next_attempt_at else None
        values = (attempt.attempt, attempt.record, to_us(attempt.at), attempt.status, attempt.error, attempt.latency_ms)
        signed = (attempt.signed_at, attempt.signature)
        row = (*planned.key, *values, attempt.response_excerpt, next_us, attempt.url_origin, *signed)
        self._file.write("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        changed = (str(state), attempt.attempt, next_us or 0, attempt.status, attempt.error, to_us(attempt.at))
        self._file.write(
            "UPDATE deliveries SET state = ?, attempts = max(attempts, ?), due_us = ?, last_status = ?,"
            " last_error = ?, updated_us = ?, last_record = ?" + _ONE,
            (*changed, attempt.record, *planned.key),
        )
        self._file.count_pending((state is DeliveryState.PENDING) - was_pending)

    def redeliver(self, planned: PlannedDelivery, record: int, due: datetime) -> TrackedDelivery | None:
        """Make a delivery pending again, as requested by a record; return None if it was attempted since."""
        known = self.delivery(*planned.key)
        becomes_pending = known is None or known.state is not DeliveryState.PENDING
        if known is None or known.event_id != planned.event_id:
            self._insert(planned, due, record)
            self._file.count_pending(int(becomes_pending))
            return self.delivery(*planned.key)
        made = self._file.rows("SELECT count(*) FROM attempts" + _ONE + " AND record < ?", (*planned.key, record))[0][0]
        values = (record, made, *planned.key, record)
        if not self._file.write(
            "UPDATE deliveries SET asked = ?, scheduled_from = ?" + _ONE + " AND asked < ?", values
        ):
            return None
        again = self._file.write(
            "UPDATE deliveries SET state = 'pending', due_us = ?, updated_us = ?" + _ONE + " AND last_record < ?",
            (to_us(due), to_us(due), *planned.key, record),
        )
        if not again:
            return None
        self._file.count_pending(int(becomes_pending))
        return self.delivery(*planned.key)

    def postpone(self, key: tuple[str, int], due: datetime) -> None:
        """Make the next attempt of a pending delivery due later: nothing could be sent."""
        self._file.write(f"UPDATE deliveries SET due_us = ?{_ONE} AND {_PENDING}", (to_us(due), *key))

    def cancel(self, endpoint_id: str, sequence: int | None = None) -> None:
        """Cancel what is pending for an endpoint, or one delivery of it."""
        statement, values = f"UPDATE deliveries SET state = 'cancelled' WHERE endpoint_id = ? AND {_PENDING}", []
        if sequence is not None:
            statement, values = statement + " AND sequence = ?", [sequence]
        self._file.count_pending(-self._file.write(statement, (endpoint_id, *values)))

    # -- pending deliveries

    def due(self, lane: str, limit: int) -> Sequence[TrackedDelivery]:
        """Return the first ``limit`` pending deliveries of a lane, by due time."""
        return self._fetch(f"{_SELECT} WHERE lane = ? AND {_PENDING} ORDER BY due_us, sequence", (lane,), limit)

    def heads(self, endpoint_id: str, limit: int) -> Sequence[TrackedDelivery]:
        """Return the first pending delivery of each subject, by due time: for strict order."""
        first_sequences = (
            f"SELECT min(sequence) FROM deliveries WHERE endpoint_id = ? AND {_PENDING} GROUP BY event_subject"
        )
        query = f"{_SELECT} WHERE endpoint_id = ? AND sequence IN ({first_sequences}) ORDER BY due_us, sequence"
        return self._fetch(query, (endpoint_id, endpoint_id), limit)

    def head(self, endpoint_id: str, event_subject: str) -> TrackedDelivery | None:
        """Return the first pending delivery of one subject."""
        query = f"{_SELECT} WHERE endpoint_id = ? AND event_subject = ? AND {_PENDING} ORDER BY sequence LIMIT 1"
        return self._first(query, (endpoint_id, event_subject))

    def lanes_with_pending(self) -> Sequence[str]:
        """Return the names of the lanes with pending deliveries."""
        return [row[0] for row in self._file.rows(f"SELECT DISTINCT lane FROM deliveries WHERE {_PENDING}")]

    def receivers_with_pending(self) -> Sequence[tuple[str, str]]:
        """Return tenant and id of the receivers with pending deliveries."""
        rows = self._file.rows(f"SELECT DISTINCT tenant, endpoint_id FROM deliveries WHERE {_PENDING}")
        return [(row[0], row[1]) for row in rows]

    def count_pending(self) -> int:
        """Return the number of pending deliveries."""
        if self._file.pending is None:
            self._file.pending = int(self._file.rows(f"SELECT count(*) FROM deliveries WHERE {_PENDING}")[0][0])
        return self._file.pending

    def oldest_pending(self) -> int | None:
        """Return the sequence of the oldest event with a pending delivery."""
        found: int | None = self._file.rows(f"SELECT min(sequence) FROM deliveries WHERE {_PENDING}")[0][0]
        return found

    def complete_to(self) -> int:
        """Return the sequence up to which every event is planned and each of its deliveries has a record."""
        query = f"SELECT min(sequence) FROM deliveries WHERE {_PENDING} AND attempts = 0 AND asked = 0"
        first = self._file.rows(query)[0][0]
        planned = self._file.planned
        return planned if first is None else min(planned, int(first) - 1)

    # -- lists for users

    def list(
        self, endpoint_id: str, state: DeliveryState | None = None, limit: int = 50, before: int | None = None
    ) -> tuple[tuple[TrackedDelivery, ...], int | None]:
        """Return an endpoint's deliveries, newest event first, and ``before`` of the next page (None: no more)."""
        query = f"{_SELECT} WHERE endpoint_id = ?"
        values: tuple[Any, ...] = (endpoint_id,)
        conditions: tuple[tuple[str, Any], ...] = (("state = ?", state and str(state)), ("sequence < ?", before))
        for clause, value in conditions:
            if value is not None:
                query, values = f"{query} AND {clause}", (*values, value)
        found = self._fetch(f"{query} ORDER BY sequence DESC", values, limit + 1)
        return tuple(found[:limit]), found[limit - 1].sequence if len(found) > limit else None

    def attempts(self, endpoint_id: str, sequence: int) -> tuple[DeliveryAttempt, ...]:
        """Return the attempts to deliver one event to one endpoint, in order."""
        columns = (
            "attempt, record, at_us, status, error, latency_ms, excerpt, next_us, url_origin, signed_at, signature"
        )
        query = f"SELECT {columns} FROM attempts{_ONE} ORDER BY attempt"
        return tuple(_attempt(row) for row in self._file.rows(query, (endpoint_id, sequence)))

    def prune(self, event: int, record: int) -> None:
        """Remove completed deliveries older than the streams' first messages: a rebuild would not have them either."""
        self._file.write("DELETE FROM attempts WHERE record < ?", (record,))
        old = "DELETE FROM deliveries WHERE state <> 'pending' AND last_record"
        self._file.write(old + " BETWEEN 1 AND ?", (record - 1,))
        self._file.write(old + " = 0 AND sequence < ?", (event,))  # cancelled before an attempt was made

    def _insert(self, planned: PlannedDelivery, due: datetime, asked: int = 0) -> None:
        self._file.write(_INSERT, _new_row(planned, to_us(due), asked))

    def _standing(self, planned: PlannedDelivery) -> tuple[str | None, bool]:
        """Return the event that is stored under a delivery's key, None for none, and whether it is pending."""
        rows = self._file.rows(f"SELECT event_id, {_PENDING} FROM deliveries" + _ONE, planned.key)
        return (str(rows[0][0]), bool(rows[0][1])) if rows else (None, False)

    def _first(self, query: str, values: Sequence[Any]) -> TrackedDelivery | None:
        rows = self._file.rows(query, values)
        return _delivery(rows[0]) if rows else None

    def _fetch(self, query: str, values: Sequence[Any], limit: int) -> Sequence[TrackedDelivery]:
        return [_delivery(row) for row in self._file.rows(f"{query} LIMIT ?", (*values, limit))]
