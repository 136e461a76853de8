"""Rows of the view about runs: how long the latest of a kind took, for estimates of cost."""

from __future__ import annotations

from typing import Final

from kit.projection_file import ProjectionFile

#: Latest runs kept per workload, version and device.
_KEPT: Final = 50


class RunRows:
    """Runs of all tenants. Calls are short and made in the event loop."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file

    def keep(self, workload: str, version: str, device: str, sequence: int, seconds: float) -> None:
        """Store the billed seconds of a successful run; only the newest of a kind are kept."""
        kind = (workload, version, device)
        self._file.write_own("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?)", [(*kind, sequence, seconds)])
        of_kind = "workload = ? AND version = ? AND device = ?"
        oldest = f"SELECT sequence FROM runs WHERE {of_kind} ORDER BY sequence DESC LIMIT 1 OFFSET {_KEPT - 1}"  # noqa: S608
        self._file.write_own(f"DELETE FROM runs WHERE {of_kind} AND sequence < ({oldest})", [(*kind, *kind)])  # noqa: S608

    def durations_s(self, workload: str, version: str, device: str) -> list[float]:
        """Return the billed seconds of the latest runs of a kind."""
        query = "SELECT seconds FROM runs WHERE workload = ? AND version = ? AND device = ?"
        return [row[0] for row in self._file.rows(query, (workload, version, device))]
