"""Use of each tenant now, by the view: unfinished jobs and sessions, bytes of uploads."""

from __future__ import annotations

from typing import Final

from contracts.job import State
from contracts.upload import UploadState
from kit.projection_file import ProjectionFile

_UNFINISHED: Final = tuple(str(state) for state in State if not state.ended)
#: Every column that a sum or count needs is in its index.
USAGE_INDEXES: Final = """
CREATE INDEX uploads_by_size ON uploads (tenant, state, size_bytes);
CREATE INDEX sessions_unfinished ON sessions (tenant, ended) WHERE NOT ended
"""


class UsageRows:
    """Queries over the tables of the view."""

    def __init__(self, file: ProjectionFile) -> None:
        """Use an open view."""
        self._file = file

    def unfinished_jobs(self, tenant: str) -> int:
        """Return the number of a tenant's jobs that have not ended, without those of pipelines' stages."""
        states = ", ".join("?" * len(_UNFINISHED))
        query = f"SELECT count(*) FROM jobs WHERE tenant = ? AND pipeline = '' AND state IN ({states})"  # noqa: S608
        return self._one(query, tenant, *_UNFINISHED)

    def unfinished_sessions(self, tenant: str) -> int:
        """Return the number of a tenant's sessions that have not ended."""
        return self._one("SELECT count(*) FROM sessions WHERE tenant = ? AND NOT ended", tenant)

    def upload_bytes(self, tenant: str, state: UploadState) -> int:
        """Return the bytes of a tenant's uploads in a state."""
        query = "SELECT coalesce(sum(size_bytes), 0) FROM uploads WHERE tenant = ? AND state = ?"
        return self._one(query, tenant, str(state))

    def _one(self, query: str, *values: str) -> int:
        ((found,),) = self._file.rows(query, values)
        return int(found)
