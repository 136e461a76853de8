"""What is to be delivered, what was, and how each attempt went: planned from EVENTS and settled from DELIVERIES.

Knows no stream: it is told. Its queries each stand on an index; what is listed for a lane or a page is bounded.
"""
# ruff: noqa: S608 - statements are put together from constants of this file; what comes from outside is bound

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from services.notifier.webhooks.deliveries.delivery import Attempt, Delivery, DeliveryState, Planned
from services.notifier.webhooks.deliveries.view_file import ViewFile, from_us, to_us

_SELECT: Final = (
    "SELECT endpoint_id, sequence, tenant, lane, event_id, event_type, event_subject, state, attempts, scheduled_from,"
    " due_us, last_status, last_error, updated_us FROM deliveries"
)
_ONE: Final = " WHERE endpoint_id = ? AND sequence = ?"
_PENDING: Final = " state = 'pending'"


def _delivery(row: Sequence[Any]) -> Delivery:
    where, standing, result = row[:7], row[7:10], row[11:13]
    return Delivery(*where, DeliveryState(standing[0]), *standing[1:], from_us(row[10]), *result, from_us(row[13]))  # type: ignore[call-arg] # mypy counts no columns


def _attempt(row: Sequence[Any]) -> Attempt:
    next_attempt_at = from_us(row[7]) if row[7] else None
    return Attempt(row[0], row[1], from_us(row[2]), row[3], row[4], row[5], row[6], next_attempt_at, row[8])


class DeliveryView:
    """The deliveries of the view; all calls are short and made in the event loop."""

    def __init__(self, file: ViewFile) -> None:
        """Use an open file."""
        self._file = file

    def delivery(self, endpoint_id: str, sequence: int) -> Delivery | None:
        """Give one delivery."""
        return self._first(_SELECT + _ONE, (endpoint_id, sequence))

    def plan(self, planned: Planned, due: datetime) -> bool:
        """Note that an event is to be delivered, unless that is known; tell whether it was not.

        A delivery of that sequence but of another event is of an earlier incarnation of the stream.
        """
        known = self._event_of(planned)
        if known == planned.event_id:
            return False
        if known is not None:
            self._file.write("DELETE FROM attempts" + _ONE, planned.key)
        self._insert(planned, due)
        return True

    def settle(self, planned: Planned, attempt: Attempt, state: DeliveryState) -> None:
        """Note how an attempt went, and what that makes of the delivery."""
        if self._event_of(planned) != planned.event_id:
            self._insert(planned, attempt.at)
        next_us = to_us(attempt.next_attempt_at) if attempt.next_attempt_at else None
        values = (attempt.attempt, attempt.record, to_us(attempt.at), attempt.status, attempt.error, attempt.latency_ms)
        row = (*planned.key, *values, attempt.response_excerpt, next_us, attempt.url_origin)
        self._file.write("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        changed = (str(state), attempt.attempt, next_us or 0, attempt.status, attempt.error, to_us(attempt.at))
        self._file.write(
            "UPDATE deliveries SET state = ?, attempts = max(attempts, ?), due_us = ?, last_status = ?,"
            " last_error = ?, updated_us = ?, last_record = ?" + _ONE,
            (*changed, attempt.record, *planned.key),
        )

    def ask_again(self, planned: Planned, record: int, due: datetime) -> Delivery | None:
        """Make a delivery pending once more, as asked by a record; give it, unless an attempt was made since."""
        known = self.delivery(*planned.key)
        if known is None or known.event_id != planned.event_id:
            self._insert(planned, due, record)
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
        return self.delivery(*planned.key) if again else None

    def cancel(self, endpoint_id: str, sequence: int | None = None) -> None:
        """Note that what is pending for an endpoint, or one delivery of it, will never be sent."""
        statement, values = f"UPDATE deliveries SET state = 'cancelled' WHERE endpoint_id = ? AND {_PENDING}", []
        if sequence is not None:
            statement, values = statement + " AND sequence = ?", [sequence]
        self._file.write(statement, (endpoint_id, *values))

    # -- what waits

    def due(self, lane: str, limit: int) -> Sequence[Delivery]:
        """List what waits in a lane, what is due first before the rest."""
        return self._several(f"{_SELECT} WHERE lane = ? AND {_PENDING} ORDER BY due_us, sequence", (lane,), limit)

    def heads(self, endpoint_id: str, limit: int) -> Sequence[Delivery]:
        """List the first that waits of each subject, what is due first before the rest: for strict order."""
        firsts = f"SELECT min(sequence) FROM deliveries WHERE endpoint_id = ? AND {_PENDING} GROUP BY event_subject"
        query = f"{_SELECT} WHERE endpoint_id = ? AND sequence IN ({firsts}) ORDER BY due_us, sequence"
        return self._several(query, (endpoint_id, endpoint_id), limit)

    def head(self, endpoint_id: str, event_subject: str) -> Delivery | None:
        """Give the first that waits of one subject."""
        query = f"{_SELECT} WHERE endpoint_id = ? AND event_subject = ? AND {_PENDING} ORDER BY sequence LIMIT 1"
        return self._first(query, (endpoint_id, event_subject))

    def lanes(self) -> Sequence[str]:
        """Name the lanes in which something waits."""
        return [row[0] for row in self._file.rows(f"SELECT DISTINCT lane FROM deliveries WHERE {_PENDING}")]

    def endpoints_waited_for(self) -> Sequence[tuple[str, str]]:
        """Name tenant and id of the endpoints for which something waits."""
        rows = self._file.rows(f"SELECT DISTINCT tenant, endpoint_id FROM deliveries WHERE {_PENDING}")
        return [(row[0], row[1]) for row in rows]

    def count_pending(self) -> int:
        """Count what waits."""
        return int(self._file.rows(f"SELECT count(*) FROM deliveries WHERE {_PENDING}")[0][0])

    def complete_to(self) -> int:
        """Give the sequence up to which every event is planned and each of its deliveries has a record."""
        query = f"SELECT min(sequence) FROM deliveries WHERE {_PENDING} AND attempts = 0 AND asked = 0"
        first = self._file.rows(query)[0][0]
        planned = self._file.planned
        return planned if first is None else min(planned, int(first) - 1)

    # -- what is shown

    def list(
        self, endpoint_id: str, state: DeliveryState | None = None, limit: int = 50, before: int | None = None
    ) -> tuple[tuple[Delivery, ...], int | None]:
        """List an endpoint's deliveries, newest event first, and give what ``before`` must be for the next page."""
        query = f"{_SELECT} WHERE endpoint_id = ?"
        values: tuple[Any, ...] = (endpoint_id,)
        conditions: tuple[tuple[str, Any], ...] = (("state = ?", state and str(state)), ("sequence < ?", before))
        for clause, value in conditions:
            if value is not None:
                query, values = f"{query} AND {clause}", (*values, value)
        found = self._several(f"{query} ORDER BY sequence DESC", values, limit + 1)
        return tuple(found[:limit]), found[limit - 1].sequence if len(found) > limit else None

    def attempts(self, endpoint_id: str, sequence: int) -> tuple[Attempt, ...]:
        """List the attempts to deliver one event to one endpoint, in order."""
        columns = "attempt, record, at_us, status, error, latency_ms, excerpt, next_us, url_origin"
        query = f"SELECT {columns} FROM attempts{_ONE} ORDER BY attempt"
        return tuple(_attempt(row) for row in self._file.rows(query, (endpoint_id, sequence)))

    def forget_before(self, event: int, record: int) -> None:
        """Drop what is settled and older than the streams' first messages: a rebuilt view would not have it either."""
        self._file.write("DELETE FROM attempts WHERE record < ?", (record,))
        old = "DELETE FROM deliveries WHERE state <> 'pending' AND last_record"
        self._file.write(old + " BETWEEN 1 AND ?", (record - 1,))
        self._file.write(old + " = 0 AND sequence < ?", (event,))  # cancelled before an attempt was made

    def _insert(self, planned: Planned, due: datetime, asked: int = 0) -> None:
        key = (planned.endpoint_id, planned.sequence, planned.tenant, planned.lane)
        event = (planned.event_id, planned.event_type, planned.event_subject)
        rest = (str(DeliveryState.PENDING), 0, 0, to_us(due), None, None, to_us(due), asked, 0)
        values = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
        self._file.write(f"INSERT OR REPLACE INTO deliveries VALUES ({values})", (*key, *event, *rest))

    def _event_of(self, planned: Planned) -> str | None:
        rows = self._file.rows("SELECT event_id FROM deliveries" + _ONE, planned.key)
        return str(rows[0][0]) if rows else None

    def _first(self, query: str, values: Sequence[Any]) -> Delivery | None:
        rows = self._file.rows(query, values)
        return _delivery(rows[0]) if rows else None

    def _several(self, query: str, values: Sequence[Any], limit: int) -> Sequence[Delivery]:
        return [_delivery(row) for row in self._file.rows(f"{query} LIMIT ?", (*values, limit))]
