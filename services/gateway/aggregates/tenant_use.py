"""Quotas of a tenant in the gateway: checked before a job, a session or an upload is stored, and with every event."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from contracts.quotas import QuotaName
from contracts.upload import UploadState
from kit.auth.quotas import Quotas
from services.gateway.aggregates.usage_rows import UsageRows

#: The sums over all uploads of a tenant are read this often at most; what was announced since is added.
_SUM_S: Final = 5.0


@dataclass
class _UploadBytes:
    """Bytes of a tenant's uploads, as they were summed at a time of the monotonic clock."""

    stored: int
    unfinished: int
    at_s: float


class TenantUse:
    """Quotas of the tenants, and what they use by this gateway's view."""

    def __init__(self, quotas: Quotas, usage: UsageRows) -> None:
        """Check against ``quotas`` what ``usage`` counts."""
        self.quotas = quotas
        self._usage = usage
        self._uploads: dict[str, _UploadBytes] = {}

    def count_event(self, tenant: str) -> None:
        """Count an event that a tenant causes.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        self.quotas.take(tenant, QuotaName.EVENTS)

    def require_job(self, tenant: str) -> None:
        """Check that a tenant may have one more unfinished job.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        self.quotas.require(tenant, QuotaName.UNFINISHED_JOBS, self._usage.unfinished_jobs(tenant))

    def require_session(self, tenant: str) -> None:
        """Check that a tenant may have one more live session.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        self.quotas.require(tenant, QuotaName.SESSIONS, self._usage.unfinished_sessions(tenant))

    def require_upload(self, tenant: str, size_bytes: int) -> None:
        """Check that a tenant may announce an upload of this size, and that there is room for it when it is complete.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        used = self._upload_bytes(tenant)
        self.quotas.require(tenant, QuotaName.UNFINISHED_INPUT_BYTES, used.unfinished, size_bytes)
        self.quotas.require(tenant, QuotaName.STORAGE_BYTES, used.stored + used.unfinished, size_bytes)
        used.unfinished += size_bytes

    def _upload_bytes(self, tenant: str) -> _UploadBytes:
        known, now = self._uploads.get(tenant), time.monotonic()
        if known is None or now - known.at_s > _SUM_S:
            stored = self._usage.upload_bytes(tenant, UploadState.COMPLETED)
            known = _UploadBytes(stored, self._usage.upload_bytes(tenant, UploadState.CREATED), now)
            self._uploads[tenant] = known
        return known
