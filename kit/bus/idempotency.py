"""Idempotency keys of HTTP requests: one record per key, written on condition that there is none.

The record holds the id of the resource before it is created. If the process dies in between, the next request with the
same key creates the resource with that id; concurrent requests with one key create the same resource.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Header
from pydantic import BaseModel

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.limits import IDEMPOTENCY_KEY_CHARS
from contracts.quotas import QuotaName
from kit.auth.quotas import Quotas
from kit.bus.event_store import Conflict, EventStore

#: Spaces at the ends of a header's value are not part of it.
_KEY_PATTERN: Final = f"^[!-~]([ -~]{{0,{IDEMPOTENCY_KEY_CHARS - 2}}}[!-~])?$"
#: Attempts to record an id where another one is recorded, and cannot be read.
_ATTEMPTS: Final = 50
_RETRY_S: Final = 0.05


class IdempotencyRecord(BaseModel):
    """Stored record of a key; ``id`` is the record's own and distinguishes a retried write from another one."""

    id: str
    request_sha256: str
    made: str


@dataclass(frozen=True)
class IdempotencyKey:
    """One key of one tenant on one route, with the hash of the request."""

    tenant: str
    subject: str
    request_sha256: str


def idempotency_key(tenant: str, route: str, key: str, body: dict[str, Any]) -> IdempotencyKey:
    """Return a key with the hash of its request; equal JSON values count as the same body.

    Raises:
        SaccadeError: IDEMPOTENCY_KEY_INVALID.
    """
    if not re.fullmatch(_KEY_PATTERN, key):
        raise SaccadeError(ErrorCode.IDEMPOTENCY_KEY_INVALID)
    scope = json.dumps([tenant, route, key]).encode()
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return IdempotencyKey(
        tenant, f"saccade.idem.{hashlib.sha256(scope).hexdigest()}", hashlib.sha256(canonical).hexdigest()
    )  # fmt: skip


class Idempotency:
    """Records of all keys, kept for a day."""

    def __init__(self, store: EventStore, quotas: Quotas | None = None) -> None:
        """Use the store of the stream of records; ``quotas`` limit how many a tenant makes."""
        self._store, self._quotas = store, quotas

    async def recall(self, key: IdempotencyKey) -> str | None:
        """Return the id that is recorded for a key; None when there is none.

        Raises:
            SaccadeError: IDEMPOTENCY_KEY_REUSED, when the key was used with another body; BUS_UNAVAILABLE.
        """
        stored = await self._store.load(key.subject)
        if not stored:
            return None
        record = IdempotencyRecord.model_validate_json(stored[-1].body)
        if record.request_sha256 != key.request_sha256:
            raise SaccadeError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
        return record.made

    async def claim(self, key: IdempotencyKey, made: str) -> str:
        """Record the id ``made`` for a key, unless it has one already, and return the recorded id.

        Raises:
            SaccadeError: IDEMPOTENCY_KEY_REUSED; RATE_LIMITED; BUS_UNAVAILABLE.
        """
        if self._quotas is not None:
            self._quotas.take(key.tenant, QuotaName.IDEMPOTENCY_KEYS)
        record = IdempotencyRecord(id=new_id("evt"), request_sha256=key.request_sha256, made=made)
        message = Message(key.subject, record.id, record.model_dump_json().encode())
        for _ in range(_ATTEMPTS):
            try:
                await self._store.publish(message, after=0, among=key.subject)
            except Conflict:
                if recorded := await self.recall(key):
                    return recorded
                await asyncio.sleep(_RETRY_S)  # it has expired meanwhile, or a new leader does not have it yet
            else:
                return made
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The record of this Idempotency-Key cannot be read.")


IdempotencyHeader = Annotated[
    str | None,
    Header(
        description="The same key with the same body creates one resource only, for 24 hours; with another body "
        f"it is refused. 1 to {IDEMPOTENCY_KEY_CHARS} printable ASCII characters.",
        json_schema_extra={"pattern": _KEY_PATTERN, "example": "2f9d1c7e-6b0e-4f4a-8d4c-0d6a1f1b7a55"},
    ),
]


def key_of(tenant: str, route: str, key: str | None, body: BaseModel) -> IdempotencyKey | None:
    """Return the Idempotency-Key of a request; None when it has none.

    Raises:
        SaccadeError: IDEMPOTENCY_KEY_INVALID.
    """
    if key is None:
        return None
    return idempotency_key(tenant, route, key, body.model_dump(mode="json", exclude_unset=True))
