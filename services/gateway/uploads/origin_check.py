"""Check of what a client says about a file: its metadata, and the job whose result it is."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import aggregate
from kit.bus.event_store import EventStore
from services.gateway.aggregates.view import GatewayView
from services.gateway.metadata_check import check_metadata


class UploadOriginCheck:
    """Checks what a client says about a file."""

    def __init__(self, view: GatewayView, store: EventStore) -> None:
        """Look for jobs in ``view``, and where it is behind in ``store``."""
        self._view, self._store = view, store

    async def __call__(self, tenant: str, metadata: Mapping[str, str], from_job: str | None) -> None:
        """Check it.

        Raises:
            SaccadeError: INVALID_PARAMETER, for too much metadata; JOB_NOT_FOUND, also for jobs of other tenants.
        """
        check_metadata(metadata)
        if from_job is None:
            return
        job = self._view.job(from_job)
        if job is not None and job.tenant == tenant:
            return
        if job is not None or not await self._store.load(aggregate(tenant, "job", from_job)):
            message = f"There is no job {from_job}."
            where = [{"detail": message, "pointer": "#/from_job"}]
            raise SaccadeError(ErrorCode.JOB_NOT_FOUND, message, errors=where)
