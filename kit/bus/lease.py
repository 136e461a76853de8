"""Lease with one holder at a time: a message in JetStream with a TTL, acquired and renewed by conditional publish.

The holder measures the TTL from before its request, so its lease always ends before the message expires; a write that
is still in flight after that must be stopped by a condition of its own (services publish conditionally).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import LEASES
from kit.bus.connection import request
from kit.bus.event_store import Conflict, EventStore
from kit.counts import count

log = logging.getLogger(__name__)

#: Maximum interval between two attempts of a standby: a holder that died released nothing.
_RETRY_S: Final = 1.0
#: Timeout of each step of a release; after that the lease expires by itself.
_RELEASE_S: Final = 0.5


async def is_held(client: Client, subject: str) -> bool:
    """Return whether a process holds a lease, given its subject: its message is stored and younger than its TTL.

    A nats-server that cannot write, on a full disk, does not delete expired messages either.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    store = EventStore(client, LEASES.name)
    found = await store.load(subject, deadline_s=1.0, with_headers=True)
    if not found or not found[-1].body:
        return False
    # The server's own clock, because its time stamps are compared.
    now = (await request(client, f"STREAM.INFO.{LEASES.name}", {}, 1.0)).get("ts", "")
    headers = found[-1].headers
    try:
        age = datetime.fromisoformat(now) - datetime.fromisoformat(headers["Nats-Time-Stamp"])
        return age < timedelta(milliseconds=int(headers["Nats-TTL"].removesuffix("ms")))
    except (KeyError, ValueError):
        return False


class Lease:
    """Exclusive right to act, for a limited time."""

    def __init__(self, client: Client, name: str, ttl_s: float = 3.0, details: Mapping[str, Any] | None = None) -> None:
        """Use the lease ``name``; ``ttl_s`` is at least 1, JetStream's minimum for a message.

        Everybody can read ``details`` of the holder in the stored message.
        """
        self._client = client
        self._store = EventStore(client, LEASES.name)
        self._name = name
        self._subject = f"saccade.lease.{name}"
        self._released = f"live.saccade.lease.{name}.released"
        self._ttl_s = ttl_s
        self._holder = new_id("evt")
        #: Details that the next renewal stores.
        self.details = dict(details or {})
        self._sequence = 0
        self._until = 0.0

    @property
    def holder(self) -> str:
        """Id of this process as a holder."""
        return self._holder

    async def current_holder(self) -> str | None:
        """Return the id of the process that holds the lease as far as is stored; None if none does, or NATS is away."""
        with contextlib.suppress(SaccadeError, ValueError, KeyError, TypeError):
            found = await self._store.load(self._subject, deadline_s=_RELEASE_S)
            return str(json.loads(found[-1].body)["holder"]) if found and found[-1].body else None
        return None

    @property
    def held(self) -> bool:
        """Whether this process certainly holds the lease now."""
        return asyncio.get_running_loop().time() < self._until

    async def acquire(self) -> None:
        """Wait until this process holds the lease."""
        free = asyncio.Event()

        async def on_released(_: Msg) -> None:
            free.set()

        subscription = await self._client.subscribe(self._released, cb=on_released)
        try:
            while not await self._write(0, self._ttl_s):
                free.clear()
                try:
                    async with asyncio.timeout(min(_RETRY_S, self._ttl_s / 3)):
                        await free.wait()
                except TimeoutError:
                    continue
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def keep(self) -> None:
        """Renew the lease every third of its TTL; return when it is lost."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self._ttl_s / 3, max(0.0, self._until - loop.time())))
            remaining_s = self._until - loop.time()
            renewed = remaining_s > 0 and await self._write(self._sequence, remaining_s)
            if not renewed and loop.time() >= self._until:
                count("saccade_lease_changes", self._name, "lost")
                return

    async def release(self) -> None:
        """Release the lease, if it is held, so that a standby can acquire it at once."""
        held, self._until = self.held, 0.0
        if not held or not self._client.is_connected:
            return
        # By sequence: if another process holds the lease by now, this message is gone and nothing is deleted.
        body = {"seq": self._sequence, "no_erase": True}
        try:
            await request(self._client, f"STREAM.MSG.DELETE.{LEASES.name}", body, _RELEASE_S)
            await self._client.publish(self._released, b"")
            await self._client.flush(1)
        except (SaccadeError, TimeoutError, OSError, nats.errors.Error) as error:
            log.warning("the lease was not released and expires by itself: %s", type(error).__name__)

    async def _write(self, after: int, deadline_s: float) -> bool:
        """Store the lease for a whole TTL; return whether it was stored."""
        loop = asyncio.get_running_loop()
        requested_at = loop.time()
        body: dict[str, Any] = {"id": new_id("evt"), "holder": self._holder} | self.details
        message = Message(subject=self._subject, id=body["id"], body=json.dumps(body).encode())
        headers = {"Nats-TTL": f"{round(self._ttl_s * 1000)}ms"}
        try:
            self._sequence = await self._store.publish(message, after=after, deadline_s=deadline_s, headers=headers)
        except Conflict:
            if after:
                self._until = 0.0
            return False
        except SaccadeError as error:
            log.warning("lease: %s", error.message)
            await asyncio.sleep(0.1)
            return False
        self._until = requested_at + self._ttl_s
        if not after:
            count("saccade_lease_changes", self._name, "acquired")
        return True
