"""SQLite table of gaps: events that the stream had deleted when they were to be planned. They are in the archive."""

from __future__ import annotations

from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile


class GapTable:
    """Gaps of the projection that are not planned yet; all calls are short and made in the event loop."""

    def __init__(self, file: DeliveryFile) -> None:
        """Use an open file."""
        self._file = file

    def add(self, after: int, until: int) -> None:
        """Add the events after a sequence and up to another."""
        self._file.write("INSERT OR REPLACE INTO gaps VALUES (?, ?)", (until, after))

    def first(self) -> tuple[int, int] | None:
        """Return the first gap: the sequences after which it begins, and up to which it goes; None without one."""
        rows = self._file.rows("SELECT after, until FROM gaps ORDER BY until LIMIT 1")
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    def end(self) -> int:
        """Return the last sequence in a gap; 0 without one."""
        return int(self._file.rows("SELECT coalesce(max(until), 0) FROM gaps")[0][0])

    def advance(self, until: int, after: int) -> None:
        """Take note that a gap is planned up to ``after``."""
        if after < until:
            self._file.write("UPDATE gaps SET after = ? WHERE until = ?", (after, until))
        else:
            self._file.write("DELETE FROM gaps WHERE until = ?", (until,))
