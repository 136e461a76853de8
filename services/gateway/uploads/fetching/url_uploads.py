"""Uploads by URL that a client creates by itself: the file is fetched, whether a job uses it or not."""

from __future__ import annotations

from contracts.ids import new_id
from contracts.upload import Upload
from kit.bus.idempotency import Idempotency, IdempotencyKey
from services.gateway.uploads.fetching.upload_fetches import UploadFetches
from services.gateway.uploads.fetching.url_policy import new_fetch
from services.gateway.uploads.service import UploadService


class UrlUploads:
    """Creates uploads by URL. Tenant-scoped."""

    def __init__(self, fetches: UploadFetches, uploads: UploadService, idempotency: Idempotency) -> None:
        """Enqueue files in ``fetches``."""
        self._fetches, self._uploads, self._idempotency = fetches, uploads, idempotency

    async def create(
        self,
        tenant: str,
        url: str,
        *,
        filename: str | None,
        sha256: str | None,
        metadata: dict[str, str],
        from_job: str | None,
        key: IdempotencyKey | None,
    ) -> Upload:
        """Store durably that a file is to be fetched, and return its upload.

        Raises:
            SaccadeError: URL_INPUT_NOT_ALLOWED, URL_INVALID, URL_ADDRESS_REFUSED, RATE_LIMITED, QUOTA_EXCEEDED,
                IDEMPOTENCY_KEY_REUSED, BUS_UNAVAILABLE; as ``UploadOriginCheck``.
        """
        await self._uploads.check_origin(tenant, metadata, from_job)
        upload_id = await self._idempotency.recall(key) if key else None
        if upload_id and (known := await self._uploads.find(tenant, upload_id)):
            return known
        wanted = new_fetch(
            self._fetches.policy, tenant, upload_id or new_id("upl"), url, filename=filename, sha256=sha256
        )
        wanted = wanted.model_copy(update={"metadata": metadata, "from_job": from_job})
        async with self._fetches.room(tenant, 1):
            if key and upload_id is None:
                claimed = await self._idempotency.claim(key, wanted.id)
                wanted = wanted.model_copy(update={"id": claimed})
            return await self._fetches.add(wanted)
