"""Rows of the view about spending: what attempts have cost by day, workload and device."""

from __future__ import annotations

from datetime import date
from typing import Final, NamedTuple

from contracts.events.job import Cost
from kit.projection_file import ProjectionFile

#: Table of the view.
SPENDING: Final = """CREATE TABLE spending (
    tenant TEXT NOT NULL, day TEXT NOT NULL, workload TEXT NOT NULL, device TEXT NOT NULL, attempts INTEGER NOT NULL,
    seconds REAL NOT NULL, usd REAL NOT NULL, estimated_usd REAL NOT NULL,
    PRIMARY KEY (tenant, day, workload, device)
) WITHOUT ROWID"""
_ADD: Final = """
INSERT INTO spending VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, day, workload, device) DO UPDATE SET
    attempts = attempts + excluded.attempts, seconds = seconds + excluded.seconds, usd = usd + excluded.usd,
    estimated_usd = estimated_usd + excluded.estimated_usd
"""


class Spending(NamedTuple):
    """Attempts of one workload on one device that were settled on one day (UTC)."""

    tenant: str
    day: str
    workload: str
    device: str
    attempts: int
    seconds: float
    usd: float
    #: Sum of the estimates of the jobs that succeeded.
    estimated_usd: float


class SpendingRows:
    """Spending of all tenants. Calls are short and made in the event loop."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file

    def settle(self, tenant: str, workload: str, day: date, cost: Cost, estimated_usd: float) -> None:
        """Add an attempt that was settled; ``estimated_usd`` is its job's estimate if it has succeeded, else 0."""
        values = (str(day), workload, cost.device, 1, cost.seconds, cost.usd, estimated_usd)
        self._file.write(_ADD, (tenant, *values))

    def correct(self, tenant: str, workload: str, device: str, *, day: date, change_usd: float) -> None:
        """Change the amount of a day: the end of an attempt was reported once more, with another cost."""
        self._file.write(_ADD, (tenant, str(day), workload, device, 0, 0.0, change_usd, 0.0))

    def between(self, tenant: str | None, since: date, until: date) -> list[Spending]:
        """Return the spending of the days from ``since`` to ``until``, newest first; of all tenants for None."""
        of_tenant, values = ("tenant = ? AND ", [tenant]) if tenant else ("", [])
        query = (
            f"SELECT * FROM spending WHERE {of_tenant}day >= ? AND day <= ? "  # noqa: S608 - no values in it
            "ORDER BY day DESC, usd DESC, tenant, workload, device"
        )
        return [Spending(*row) for row in self._file.rows(query, (*values, str(since), str(until)))]
