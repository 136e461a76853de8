"""Rows of the view that an erasure asks for, and deletes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from contracts.session import session_id_of_job
from kit.projection_file import ProjectionFile

#: Column of each table that says when a row began; a tenant's budget, account and spending have none.
_OF_TENANT: Final = {
    "jobs": "first_sequence",
    "job_texts": "first_sequence",
    "uploads": "created_us",
    "sessions": "first_sequence",
    "rules": "first_sequence",
    "budgets": "0",
    "accounts": "0",
    "spending": "0",
}
_OF_JOB: Final = ("artifacts", "job_inputs", "results")
_TEXT_OF_JOB: Final = (
    "DELETE FROM job_texts WHERE (tenant, is_part, first_sequence) IN "
    "(SELECT tenant, pipeline != '', first_sequence FROM jobs WHERE id = ?)"
)


class ErasedRows:
    """Reads what is still in use; deletes rows for good."""

    def __init__(self, file: ProjectionFile, on_erased: Callable[[], None]) -> None:
        """Delete from the view's file, and call ``on_erased`` after each erasure."""
        self._file = file
        self._on_erased = on_erased

    def jobs_of_upload(self, upload_id: str) -> list[str]:
        """Return the ids of the jobs that use or have used an upload, without those of pipelines' stages."""
        query = (
            "SELECT job_id FROM job_inputs JOIN jobs ON id = job_id "
            "WHERE upload_id = ? AND pipeline = '' ORDER BY job_id"
        )
        return [row[0] for row in self._file.rows(query, (upload_id,))]

    def unfinished_of(self, tenant: str) -> list[str]:
        """Return the ids of a tenant's unfinished jobs and sessions."""
        tables = ("jobs", "sessions")
        queries = [f"SELECT id FROM {table} WHERE tenant = ? AND ended = 0 ORDER BY id" for table in tables]  # noqa: S608
        return [row[0] for query in queries for row in self._file.rows(query, (tenant,))]

    def delete_tenant(self, is_erased: Callable[[str], bool], until_sequence: int, until: datetime) -> None:
        """Delete the rows of the tenants for which ``is_erased`` is true, except what began after the erasure."""
        before_us = int(until.timestamp() * 1_000_000)
        for table, column in _OF_TENANT.items():
            for (tenant,) in self._file.rows(f"SELECT DISTINCT tenant FROM {table}"):  # noqa: S608 - names from above
                if is_erased(tenant):
                    condition, value = f"tenant = ? AND {column} <= ?", until_sequence
                    if column == "created_us":
                        value = before_us
                    if table == "jobs":
                        self._delete_of_jobs(condition, tenant, value)
                    self._file.write(f"DELETE FROM {table} WHERE {condition}", (tenant, value))  # noqa: S608
        self._on_erased()

    def delete_jobs(self, is_erased: Callable[[str], bool]) -> None:
        """Delete the jobs for whose ids ``is_erased`` is true, with their artifacts and sessions."""
        for (job_id,) in self._file.rows("SELECT id FROM jobs"):
            if is_erased(job_id):
                self._delete_of_jobs("id = ?", job_id)
                self._file.write(_TEXT_OF_JOB, (job_id,))
                self._file.write("DELETE FROM jobs WHERE id = ?", (job_id,))
                self._file.write("DELETE FROM sessions WHERE id = ?", (session_id_of_job(job_id),))
        self._on_erased()

    def delete_uploads(self, is_erased: Callable[[str], bool]) -> None:
        """Delete the uploads for whose ids ``is_erased`` is true."""
        for (upload_id,) in self._file.rows("SELECT id FROM uploads"):
            if is_erased(upload_id):
                self._file.write("DELETE FROM uploads WHERE id = ?", (upload_id,))
                self._file.write("DELETE FROM job_inputs WHERE upload_id = ?", (upload_id,))
        self._on_erased()

    def _delete_of_jobs(self, condition: str, *values: str | int) -> None:
        for table in _OF_JOB:
            query = f"DELETE FROM {table} WHERE job_id IN (SELECT id FROM jobs WHERE {condition})"  # noqa: S608
            self._file.write(query, values)
