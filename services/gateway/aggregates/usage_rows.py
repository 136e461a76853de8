"""Use of each tenant now, by the view: unfinished jobs and sessions, bytes of uploads."""

from __future__ import annotations

from typing import Final

from contracts.job import State
from contracts.upload import UploadState
from kit.projection_file import ProjectionFile

_UNFINISHED: Final = tuple(str(state) for state in State if not state.ended)
#: Size of an upload: of its file if it is complete, else as declared.
_SIZE: Final = (
    "coalesce(json_extract(CAST(body AS TEXT), '$.completed.size_bytes'), "
    "json_extract(CAST(body AS TEXT), '$.created.size_bytes'))"
)
#: Sums and counts are read from these indexes alone.
_INDEXES: Final = (
    f"CREATE INDEX IF NOT EXISTS uploads_by_size ON uploads (tenant, state, {_SIZE})",
    "CREATE INDEX IF NOT EXISTS sessions_unfinished ON sessions (tenant) WHERE NOT ended",
)


class UsageRows:
    """Queries over the tables of the view; a view of an earlier version gets the indexes that it lacks."""

    def __init__(self, file: ProjectionFile) -> None:
        """Use an open view."""
        self._file = file
        for statement in _INDEXES:
            file.write(statement)
        file.commit()

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
        query = f"SELECT coalesce(sum({_SIZE}), 0) FROM uploads WHERE tenant = ? AND state = ?"  # noqa: S608
        return self._one(query, tenant, str(state))

    def _one(self, query: str, *values: str) -> int:
        ((found,),) = self._file.rows(query, values)
        return int(found)
