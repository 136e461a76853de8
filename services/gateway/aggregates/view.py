"""Materialized view of jobs, their artifacts, sessions, uploads and rules in SQLite, folded from events.

It can be deleted at any time and is rebuilt from the stream. The stream's epoch and the last folded sequence are
committed in the same transaction as the folded rows, so that a restart resumes after the last commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter

from contracts.job import Job
from contracts.manifest import Artifact
from contracts.session import Session
from contracts.upload import Upload, UploadState
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.budget_rows import BudgetRows
from services.gateway.aggregates.erased_rows import ErasedRows
from services.gateway.aggregates.job_counts import JobCounter
from services.gateway.aggregates.job_lists import INDEXES, JobFilter, JobLists, microseconds
from services.gateway.aggregates.job_searches import JobSearches
from services.gateway.aggregates.job_texts import SCHEMA as TEXTS
from services.gateway.aggregates.job_texts import keep_text
from services.gateway.aggregates.kept_rows import KeptRows
from services.gateway.aggregates.result_rows import RESULTS, ResultRows
from services.gateway.aggregates.rule_rows import RuleRows
from services.gateway.aggregates.run_rows import RunRows
from services.gateway.aggregates.spending_rows import SPENDING
from services.gateway.aggregates.usage_rows import USAGE_INDEXES, UsageRows

FILE_NAME: Final = "view.sqlite3"
#: Incremented when the tables or their contents change: a file of another version is deleted.
SCHEMA_VERSION: Final = 11
_SCHEMA: Final = f"""
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, sequence INTEGER NOT NULL);
INSERT INTO position VALUES (1, '', 0);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, workload TEXT NOT NULL, state TEXT NOT NULL, ended INTEGER NOT NULL,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, first_sequence INTEGER NOT NULL, pipeline TEXT NOT NULL,
    rule TEXT NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
{INDEXES};
{TEXTS};
CREATE TABLE job_inputs (upload_id TEXT NOT NULL, job_id TEXT NOT NULL, PRIMARY KEY (upload_id, job_id)) WITHOUT ROWID;
CREATE INDEX job_inputs_by_job ON job_inputs (job_id);
CREATE TABLE artifacts (
    job_id TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (job_id, name)
) WITHOUT ROWID;
CREATE TABLE runs (
    workload TEXT NOT NULL, version TEXT NOT NULL, device TEXT NOT NULL, sequence INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (workload, version, device, sequence)
) WITHOUT ROWID;
CREATE TABLE uploads (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, state TEXT NOT NULL, created_us INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_state ON uploads (state, created_us);
CREATE INDEX uploads_by_tenant ON uploads (tenant, state, created_us);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, workload TEXT NOT NULL, state TEXT NOT NULL, ended INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, first_sequence INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_by_age ON sessions (tenant, first_sequence);
CREATE INDEX sessions_by_end ON sessions (ended, updated_us);
CREATE TABLE rules (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, first_sequence INTEGER NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX rules_by_age ON rules (tenant, first_sequence);
CREATE TABLE budgets (tenant TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (tenant TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
{SPENDING};
{RESULTS}
{USAGE_INDEXES}
"""  # noqa: S608 - no values in it
_OLD_UPLOADS: Final = f"state IN ({', '.join('?' * len(UploadState))}) AND created_us < ?"
_OF_JOBS: Final = ("jobs", "job_texts", "job_inputs", "artifacts", "results", "runs")
_TABLES: Final = (*_OF_JOBS, "uploads", "sessions", "rules", "budgets", "accounts", "spending")
_JOB: Final = TypeAdapter(Job)
_SESSION: Final = TypeAdapter(Session)
_UPLOAD: Final = TypeAdapter(Upload)


def _job_columns(job: Job) -> tuple[Any, ...]:
    return (
        job.tenant,
        job.submitted.workload,
        str(job.state),
        job.state.ended,
        microseconds(job.created_at),
        microseconds(job.updated_at or job.created_at),
        job.first_sequence,
        job.submitted.part_of.job_id if job.submitted.part_of else "",
        job.submitted.rule.rule_id if job.submitted.rule else "",
    )


def _upload_columns(upload: Upload) -> tuple[Any, ...]:
    return upload.tenant, str(upload.state), microseconds(upload.created_at), upload.counted_bytes


def _session_columns(session: Session) -> tuple[Any, ...]:
    return (
        session.tenant,
        session.opened.workload,
        str(session.state),
        session.state.ended,
        microseconds(session.updated_at),
        session.first_sequence,
    )


class GatewayView:
    """The view. Calls are short and made in the event loop; ``searches`` reads what takes longer."""

    def __init__(self, folder: Path | None) -> None:
        """Open the view in a folder, or create an empty one; without a folder, in memory.

        Raises:
            OSError, sqlite3.OperationalError: the folder cannot be written, or another process has the view open.
        """
        self.file = self._file = ProjectionFile(folder and folder / FILE_NAME, _SCHEMA, SCHEMA_VERSION, shared=True)
        self._jobs = KeptRows(self._file, "jobs", _JOB, _job_columns)
        self.job_lists = JobLists(self._file)
        self.job_counter = JobCounter(self._file, self.job_lists)
        self._uploads = KeptRows(self._file, "uploads", _UPLOAD, _upload_columns)
        self._sessions = KeptRows(self._file, "sessions", _SESSION, _session_columns)
        self.rules = RuleRows(self._file)
        self.budgets = BudgetRows(self._file)
        self.runs = RunRows(self._file)
        self.usage = UsageRows(self._file)
        self.results = ResultRows(self._file)
        #: When the server stored the event that is being folded, if that is known.
        self.stored_at: datetime | None = None
        self.erasures = ErasedRows(self._file, self.on_erased)
        ((self.epoch, self.sequence),) = self._file.rows("SELECT epoch, sequence FROM position")
        self.dirty = False
        self.searches = JobSearches(self, self._file)

    def reset(self, epoch: str) -> None:
        """Delete all rows and start folding a stream with another epoch."""
        for table in _TABLES:
            self._file.write(f"DELETE FROM {table}")  # noqa: S608 - names from the line above
        self._forget()
        self.epoch, self.sequence, self.dirty = epoch, 0, True
        self.commit()

    def continue_in(self, epoch: str) -> None:
        """Go on from the same position in an epoch whose events up to it are those that were folded."""
        self.epoch, self.dirty = epoch, True

    def hold_while(self, is_held: Callable[[], bool]) -> None:
        """Commit nothing while ``is_held`` returns True.

        After a crash, folding starts again at the last commit before that.
        """
        self._file.hold_while(is_held)

    @property
    def damage(self) -> str:
        """What is wrong with the file, once it was found: the process must end, and the next one folds all events."""
        return self._file.damage

    def set_position(self, sequence: int, stored_at: datetime | None = None) -> None:
        """Set the sequence of the last folded event, and when it was stored; kept with the next commit."""
        self.sequence, self.stored_at, self.dirty = sequence, stored_at, True

    def commit(self) -> None:
        """Commit what was folded since the last commit.

        Raises:
            sqlite3.OperationalError: it cannot be written; the view must be opened again.
        """
        if not self.dirty or self._file.held():
            return
        self._file.write("UPDATE position SET epoch = ?, sequence = ?", (self.epoch, self.sequence))
        self._file.commit()
        self.dirty = False

    def freeze(self) -> int | None:
        """Commit and freeze the file, as ``ProjectionFile.freeze`` does; None also if nothing may be committed now."""
        self.commit()
        return None if self.dirty or self._file.held() else self._file.freeze()

    def close(self) -> None:
        """Commit and close.

        Raises:
            sqlite3.OperationalError: it cannot be written; the events are folded again at the next start.
        """
        self.searches.close()
        try:
            self.commit()
        finally:
            self._file.close()

    # -- jobs

    def job(self, job_id: str) -> Job | None:
        """Return a job of any tenant."""
        return self._jobs.get(job_id)

    def keep_job(self, job: Job) -> None:
        """Insert or replace a job."""
        self._jobs.keep(job.id, job)

    def keep_results(self, job: Job) -> None:
        """Store whether a job has results, and how long they are kept."""
        has_files = job.manifest_key is not None or bool(self.artifacts(job.id))
        self.results.keep(job, self.stored_at, has_files=has_files)

    def keep_text(self, job: Job) -> None:
        """Store by what texts a search finds a job."""
        keep_text(self._file, job, self.filename)

    def filename(self, upload_id: str) -> str:
        """Return the name of an upload's file; empty for an upload that is gone."""
        upload = self._uploads.get(upload_id)
        return upload.created.filename if upload else ""

    def jobs(
        self, tenant: str, wanted: JobFilter, *, before: int | None = None, limit: int
    ) -> tuple[list[Job], int | None]:
        """Return a tenant's jobs, newest first, and the value of ``before`` for the next page."""
        ids, rest = self.job_lists.page(tenant, wanted, before, limit)
        return self.read_jobs(ids), rest

    def read_jobs(self, ids: Iterable[str]) -> list[Job]:
        """Return the jobs with these ids, without those that are gone."""
        return [job for job_id in ids if (job := self._jobs.read(job_id))]

    def stage_jobs(self, job_id: str) -> list[Job]:
        """Return the jobs of a pipeline's stages, by id."""
        rows = self._file.rows("SELECT body FROM jobs WHERE pipeline = ? AND pipeline != '' ORDER BY id", (job_id,))
        return [self._jobs.decode(row[0]) for row in rows]

    def keep_inputs(self, job_id: str, upload_ids: list[str]) -> None:
        """Store which uploads a job uses."""
        rows = [(upload_id, job_id) for upload_id in upload_ids]
        self._file.write_own("INSERT OR IGNORE INTO job_inputs VALUES (?, ?)", rows)

    def unfinished_jobs_of(self, upload_id: str) -> list[str]:
        """Return the ids of the unfinished jobs that use an upload."""
        query = (
            "SELECT job_id FROM job_inputs JOIN jobs ON id = job_id WHERE upload_id = ? AND NOT ended ORDER BY job_id"
        )
        return [row[0] for row in self._file.rows(query, (upload_id,))]

    def first_job_of(self, tenant: str, upload_id: str, workload: str) -> Job | None:
        """Return the oldest job of a workload that uses an upload."""
        query = (
            "SELECT body FROM job_inputs JOIN jobs ON id = job_id "
            "WHERE upload_id = ? AND tenant = ? AND workload = ? ORDER BY first_sequence LIMIT 1"
        )
        row = self._file.row(query, (upload_id, tenant, workload))
        return self._jobs.decode(row[0]) if row else None

    def count_jobs_of(self, tenant: str, workload: str) -> dict[str, int]:
        """Return the number of a tenant's jobs of a workload by state, without those of pipelines' stages."""
        index = "jobs INDEXED BY jobs_by_workload"
        query = (
            f"SELECT state, count(*) FROM {index} WHERE tenant = ? AND pipeline = '' AND workload = ? GROUP BY state"  # noqa: S608
        )
        return dict(self._file.rows(query, (tenant, workload)))

    def count_jobs(self) -> dict[str, int]:
        """Return the number of unfinished jobs by state."""
        query = "SELECT state, count(*) FROM jobs INDEXED BY jobs_unfinished WHERE ended = 0 GROUP BY state"
        return dict(self._file.rows(query))

    # -- artifacts

    def keep_artifact(self, job_id: str, artifact: Artifact) -> None:
        """Store an artifact of a job; a later one with the same name replaces it."""
        values = (job_id, artifact.name, artifact.model_dump_json())
        self._file.write_own("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?)", [values])

    def artifacts(self, job_id: str) -> list[Artifact]:
        """Return the artifacts that a job has published so far, by name."""
        query = "SELECT body FROM artifacts WHERE job_id = ? ORDER BY name"
        return [Artifact.model_validate_json(row[0]) for row in self._file.rows(query, (job_id,))]

    def artifact(self, job_id: str, name: str) -> Artifact | None:
        """Return one artifact of a job."""
        query = "SELECT body FROM artifacts WHERE job_id = ? AND name = ?"
        row = self._file.row(query, (job_id, name))
        return Artifact.model_validate_json(row[0]) if row else None

    # -- uploads

    def upload(self, upload_id: str) -> Upload | None:
        """Return an upload of any tenant."""
        return self._uploads.get(upload_id)

    def keep_upload(self, upload: Upload) -> None:
        """Insert or replace an upload."""
        self._uploads.keep(upload.id, upload)

    def open_uploads_created_before(self, moment: datetime, limit: int = 100) -> list[Upload]:
        """Return uploads that were created before a time and not completed, oldest first."""
        query = "SELECT body FROM uploads WHERE state = ? AND created_us < ? ORDER BY created_us LIMIT ?"
        rows = self._file.rows(query, (str(UploadState.CREATED), microseconds(moment), limit))
        return [self._uploads.decode(row[0]) for row in rows]

    def completed_uploads(self, tenant: str, since: datetime | None, limit: int) -> list[Upload]:
        """Return a tenant's completed uploads that were created since a time, the newest ``limit``, newest first."""
        of_tenant = "tenant = ? AND state = ? AND created_us >= ?"
        query = f"SELECT body FROM uploads WHERE {of_tenant} ORDER BY created_us DESC LIMIT ?"  # noqa: S608
        rows = self._file.rows(query, (tenant, str(UploadState.COMPLETED), microseconds(since) if since else 0, limit))
        return [self._uploads.decode(row[0]) for row in rows]

    def upload_tenants(self) -> list[str]:
        """Return the tenants that have uploads."""
        return [row[0] for row in self._file.rows("SELECT DISTINCT tenant FROM uploads")]

    def uploads_completed_before(self, tenant: str, moment: datetime, used: datetime, limit: int) -> list[Upload]:
        """Return completed uploads of a tenant that were created before a time, oldest first.

        Without those that a job needs which has not ended, or had not at the time ``used``.
        """
        needed = (
            "SELECT 1 FROM job_inputs JOIN jobs ON jobs.id = job_id "
            "WHERE upload_id = uploads.id AND (NOT ended OR updated_us >= ?)"
        )
        query = (
            "SELECT body FROM uploads WHERE tenant = ? AND state = ? AND created_us < ? "  # noqa: S608
            f"AND NOT EXISTS ({needed}) ORDER BY created_us LIMIT ?"
        )
        values = (tenant, str(UploadState.COMPLETED), microseconds(moment), microseconds(used), limit)
        return [self._uploads.decode(row[0]) for row in self._file.rows(query, values)]

    # -- sessions

    def session(self, session_id: str) -> Session | None:
        """Return a session of any tenant."""
        return self._sessions.get(session_id)

    def keep_session(self, session: Session) -> None:
        """Insert or replace a session."""
        self._sessions.keep(session.id, session)

    def sessions(
        self, tenant: str, states: Sequence[str] = (), *, before: int | None = None, limit: int
    ) -> tuple[list[Session], int | None]:
        """Return a tenant's sessions, newest first, and the value of ``before`` for the next page."""
        clauses: list[str] = ["tenant = ?"]
        values: list[Any] = [tenant, *states]
        if states:
            clauses.append(f"state IN ({', '.join('?' * len(states))})")
        if before is not None:
            clauses.append("first_sequence < ?")
            values.append(before)
        query = f"SELECT body FROM sessions WHERE {' AND '.join(clauses)} ORDER BY first_sequence DESC LIMIT ?"  # noqa: S608
        rows = self._file.rows(query, (*values, limit + 1))
        found = [self._sessions.decode(row[0]) for row in rows[:limit]]
        return found, found[-1].first_sequence if len(rows) > limit else None

    def unfinished_sessions(self) -> list[str]:
        """Return the ids of the unfinished sessions of all tenants."""
        return [row[0] for row in self._file.rows("SELECT id FROM sessions WHERE ended = 0")]

    def count_sessions(self) -> dict[str, int]:
        """Return the number of unfinished sessions by state."""
        query = "SELECT state, count(*) FROM sessions WHERE ended = 0 GROUP BY state"
        return dict(self._file.rows(query))

    def prune_before(self, moment: datetime) -> None:
        """Delete what has ended and is older than the stream's events: a rebuilt view would not contain it either."""
        before = microseconds(moment)
        old = "SELECT id FROM jobs INDEXED BY jobs_by_end WHERE ended = 1 AND updated_us < ?"
        texts = "SELECT tenant, pipeline != '', first_sequence FROM jobs INDEXED BY jobs_by_end WHERE ended = 1"
        self._file.write(
            f"DELETE FROM job_texts WHERE (tenant, is_part, first_sequence) IN ({texts} AND updated_us < ?)",  # noqa: S608
            (before,),
        )
        for table in ("artifacts", "job_inputs", "results"):
            self._file.write(f"DELETE FROM {table} WHERE job_id IN ({old})", (before,))  # noqa: S608
        self._file.write("DELETE FROM jobs INDEXED BY jobs_by_end WHERE ended = 1 AND updated_us < ?", (before,))
        self._file.write(f"DELETE FROM uploads WHERE {_OLD_UPLOADS}", (*UploadState, before))  # noqa: S608
        self._file.write("DELETE FROM sessions WHERE ended = 1 AND updated_us < ?", (before,))
        self._forget()
        self.dirty = True

    def on_erased(self) -> None:
        """Forget what is kept in memory, and write the file anew with the next commit: rows were deleted for good."""
        self._forget()
        self.dirty = True
        self._file.rewrite_at_commit()

    def _forget(self) -> None:
        for rows in (self._jobs, self._uploads, self._sessions, self.budgets):
            rows.clear()

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table, to compare two views in tests."""
        return {table: self._file.rows(f"SELECT * FROM {table}") for table in _TABLES}  # noqa: S608
