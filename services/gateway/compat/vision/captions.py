"""Captions that clients upload: each is one message on the bus, kept for 30 days; the first one with an id counts."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Annotated, Final

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.events.base import Message
from contracts.ids import new_id
from contracts.quotas import QuotaName
from contracts.streams import CAPTIONS
from kit.auth.quotas import Quotas
from kit.bus.event_store import Conflict, EventStore
from kit.http.request_body import RequestBody

_Number = Annotated[float, Field(allow_inf_nan=False)]
_PAGE: Final = 100


class UploadedCaption(RequestBody):
    """A caption as the proxy of the replaced system and its clients upload it."""

    model_config = ConfigDict(extra="ignore", strict=True)

    windowId: str = Field(min_length=1, max_length=200)  # noqa: N815 - the client's name
    timestamp: _Number
    chunkStartS: _Number  # noqa: N815
    chunkEndS: _Number  # noqa: N815
    caption: str = Field(max_length=20_000)
    latencyMs: _Number | None = None  # noqa: N815
    tokensGenerated: _Number | None = None  # noqa: N815


class StoredCaption(BaseModel):
    """A caption, and when it was stored (Unix milliseconds)."""

    model_config = ConfigDict(extra="ignore")

    caption: UploadedCaption
    stored_at_ms: int


@dataclass(frozen=True)
class CaptionPage:
    """Captions, oldest first, and the position after which the next ones are."""

    captions: list[StoredCaption]
    after: int
    more: bool


class Captions:
    """The captions of all tenants."""

    def __init__(self, client: Client, quotas: Quotas) -> None:
        """Use a connection; the stream must have been declared. It deletes its oldest: ``quotas`` limit tenants."""
        self._store, self._quotas = EventStore(client, CAPTIONS.name), quotas

    async def keep(self, tenant: str, caption: UploadedCaption) -> int:
        """Store a caption, unless one with its id is stored; return when that was (Unix milliseconds).

        Raises:
            SaccadeError: RATE_LIMITED, BUS_UNAVAILABLE.
        """
        subject = f"saccade.cap.{tenant}.{hashlib.sha256(caption.windowId.encode()).hexdigest()[:32]}"
        stored = StoredCaption(caption=caption, stored_at_ms=time.time_ns() // 1_000_000)
        body = stored.model_dump_json().encode()
        self._quotas.take(tenant, QuotaName.CAPTION_BYTES, len(body))
        try:
            await self._store.publish(Message(subject, new_id("evt"), body), after=0)
        except Conflict:
            for known in await self._store.load(subject):
                return StoredCaption.model_validate_json(known.body).stored_at_ms
        return stored.stored_at_ms

    async def page(self, tenant: str, after: int, limit: int = _PAGE) -> CaptionPage:
        """Return captions of a tenant after a position.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found, remaining = await self._store.batch(after, f"saccade.cap.{tenant}.*", limit)
        captions = []
        for stored in found:
            try:
                captions.append(StoredCaption.model_validate_json(stored.body))
            except ValidationError:  # of another version
                continue
        return CaptionPage(captions, found[-1].sequence if found else after, bool(remaining))
