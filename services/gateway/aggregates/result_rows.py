"""Rows of the view about results in the bucket: when each job that has some ended, and which are being removed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from contracts.ids import pipeline_id_of
from contracts.job import Job
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.job_lists import microseconds

RESULTS: Final = """
CREATE TABLE results (
    job_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, ended_us INTEGER NOT NULL, keep_until_us INTEGER,
    removing INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX results_by_end ON results (removing, tenant, ended_us);
CREATE INDEX results_kept ON results (keep_until_us) WHERE keep_until_us IS NOT NULL;
"""


class ResultRows:
    """Results of jobs that have ended. Those of the stages of a pipeline go with the pipeline."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file

    def keep(self, job: Job, stored_at: datetime | None, *, has_files: bool) -> None:
        """Store where a job is after one of its events, which the server stored at ``stored_at``."""
        if pipeline_id_of(job.id) is not None:
            return
        expired, ended = job.results_expired_at is not None, job.state.ended
        if job.results_removed_at is not None or not (ended and (has_files or expired)):
            self._file.write("DELETE FROM results WHERE job_id = ?", (job.id,))
            return
        known = self._file.row("SELECT ended_us FROM results WHERE job_id = ?", (job.id,))
        ended_us = known[0] if known else microseconds(stored_at or job.finished_at or job.created_at)
        until = job.results_keep_until
        row = (job.id, job.tenant, ended_us, None if until is None else microseconds(until), expired)
        self._file.write("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row)

    def tenants(self) -> list[str]:
        """Return the tenants that have results."""
        return [row[0] for row in self._file.rows("SELECT DISTINCT tenant FROM results")]

    def ended_before(self, tenant: str, moment: datetime, limit: int) -> list[str]:
        """Return jobs of a tenant that ended before a time, and whose results have no limit of their own."""
        query = (
            "SELECT job_id FROM results WHERE removing = 0 AND tenant = ? AND ended_us < ? AND keep_until_us IS NULL "
            "ORDER BY ended_us LIMIT ?"
        )
        return [row[0] for row in self._file.rows(query, (tenant, microseconds(moment), limit))]

    def kept_until(self, moment: datetime, limit: int) -> list[str]:
        """Return jobs whose results have a limit of their own, which has passed."""
        query = "SELECT job_id FROM results WHERE keep_until_us < ? AND removing = 0 ORDER BY keep_until_us LIMIT ?"
        return [row[0] for row in self._file.rows(query, (microseconds(moment), limit))]

    def removing(self, tenant: str, limit: int, *, after: str = "") -> list[str]:
        """Return jobs of a tenant whose results are expired and may be in the bucket still; the oldest first.

        Those after the job ``after``; from the oldest on if there is none, or it is such a job no more.
        """
        beyond = self._file.row("SELECT ended_us, job_id FROM results WHERE removing = 1 AND job_id = ?", (after,))
        query = (
            "SELECT job_id FROM results WHERE removing = 1 AND tenant = ? AND (ended_us, job_id) > (?, ?) "
            "ORDER BY ended_us, job_id LIMIT ?"
        )
        return [row[0] for row in self._file.rows(query, (tenant, *(beyond or (-1, "")), limit))]

    def count_removing(self) -> int:
        """Return the number of jobs whose results are expired and may be in the bucket still."""
        ((found,),) = self._file.rows("SELECT count(*) FROM results WHERE removing = 1")
        return int(found)
