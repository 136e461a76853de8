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
import time
from collections import Counter, deque
from collections.abc import Callable
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
from kit.bus.stream_room import StreamRoom

#: Spaces at the ends of a header's value are not part of it.
_KEY_PATTERN: Final = f"^[!-~]([ -~]{{0,{IDEMPOTENCY_KEY_CHARS - 2}}}[!-~])?$"
#: Attempts to record an id where another one is recorded, and cannot be read.
_ATTEMPTS: Final = 50
_RETRY_S: Final = 0.05
#: What a record takes in the stream, with its subject and headers (measured: 569).
_RECORD_BYTES: Final = 600
_HOUR_S: Final = 3600.0
_HOURS: Final = 24
#: Time after which a tenant may try again that has its part of a stream that is nearly full, seconds.
_NEARLY_FULL_S: Final = 60.0


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
        self._room, self._recent = StreamRoom(store.client, store.stream), RecentKeys()

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
            await self._require_room(key.tenant, self._quotas)
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
                self._recent.add(key.tenant)
                return made
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The record of this Idempotency-Key cannot be read.")

    async def _require_room(self, tenant: str, quotas: Quotas) -> None:
        """Check that the tenant has room in the stream, which refuses the keys of all when it is full.

        Raises:
            SaccadeError: RATE_LIMITED; BUS_UNAVAILABLE.
        """
        used = self._recent.count(tenant)
        part = await self._room.part_bytes(self._recent.tenants + (not used))
        if part is not None and used >= (most := part // _RECORD_BYTES):
            quotas.refuse_rate(tenant, QuotaName.IDEMPOTENCY_KEYS, most, _NEARLY_FULL_S)


class RecentKeys:
    """Numbers of keys that tenants have recorded in this process within about a day, as long as records are stored."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count nothing yet."""
        self._clock = clock
        #: By hour, the oldest first.
        self._hours: deque[tuple[int, Counter[str]]] = deque()
        self._total: Counter[str] = Counter()

    @property
    def tenants(self) -> int:
        """Number of tenants that have any."""
        return len(self._total)

    def add(self, tenant: str) -> None:
        """Count a key."""
        hour = self._forget()
        if not self._hours or self._hours[-1][0] != hour:
            self._hours.append((hour, Counter()))
        self._hours[-1][1][tenant] += 1
        self._total[tenant] += 1

    def count(self, tenant: str) -> int:
        """Return the number of a tenant's keys."""
        self._forget()
        return self._total[tenant]

    def _forget(self) -> int:
        """Forget what is older than a day, and return this hour."""
        hour = int(self._clock() // _HOUR_S)
        while self._hours and self._hours[0][0] <= hour - _HOURS - 1:
            self._total -= self._hours.popleft()[1]
        return hour


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
