"""Quotas of a tenant in the gateway: checked before a job, a session or an upload is stored, and with every event."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
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
        #: Bytes of the files that are being fetched for a tenant; their events do not have a size before the end.
        self._arriving: Counter[str] = Counter()

    def count_event(self, tenant: str, count: int = 1) -> None:
        """Count events that a tenant causes.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        self.quotas.take(tenant, QuotaName.EVENTS, count)

    def require_job(self, tenant: str, waiting: int = 0) -> None:
        """Check that a tenant may have one more unfinished job beside ``waiting`` ones that are not stored yet.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        self.quotas.require(tenant, QuotaName.UNFINISHED_JOBS, self._usage.unfinished_jobs(tenant) + waiting)

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
        self.require_bytes(tenant, size_bytes)
        self._upload_bytes(tenant).unfinished += size_bytes

    def require_bytes(self, tenant: str, size_bytes: int = 1) -> None:
        """Check that there is room for so many bytes more of uploads; they are not counted.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        used = self._upload_bytes(tenant)
        unfinished = used.unfinished + self._arriving[tenant]
        self.quotas.require(tenant, QuotaName.UNFINISHED_INPUT_BYTES, unfinished, size_bytes)
        self.quotas.require(tenant, QuotaName.STORAGE_BYTES, used.stored + unfinished, size_bytes)

    @contextmanager
    def arriving(self, tenant: str) -> Iterator[ArrivingFile]:
        """Count a file whose size is known when its last byte has arrived, until the end of the block."""
        file = ArrivingFile(self, tenant)
        try:
            yield file
        finally:
            self.add_arriving(tenant, -file.size_bytes)
            self._upload_bytes(tenant).unfinished += file.size_bytes  # until the next sum, which has its event

    def add_arriving(self, tenant: str, size_bytes: int) -> None:
        """Count bytes of a file that is being fetched."""
        self._arriving[tenant] += size_bytes
        if not self._arriving[tenant]:
            del self._arriving[tenant]

    def _upload_bytes(self, tenant: str) -> _UploadBytes:
        known, now = self._uploads.get(tenant), time.monotonic()
        if known is None or now - known.at_s > _SUM_S:
            stored = self._usage.upload_bytes(tenant, UploadState.COMPLETED)
            known = _UploadBytes(stored, self._usage.upload_bytes(tenant, UploadState.CREATED), now)
            self._uploads[tenant] = known
        return known


class ArrivingFile:
    """A file that is being fetched, and its bytes as far as they are known."""

    def __init__(self, use: TenantUse, tenant: str) -> None:
        """Start with no bytes."""
        self._use, self._tenant = use, tenant
        self.size_bytes = 0

    def grow_to(self, size_bytes: int) -> None:
        """Count what was announced, or what has arrived beyond that.

        Raises:
            SaccadeError: QUOTA_EXCEEDED; nothing more was counted.
        """
        more = size_bytes - self.size_bytes
        if more <= 0:
            return
        self._use.require_bytes(self._tenant, more)
        self._use.add_arriving(self._tenant, more)
        self.size_bytes = size_bytes
