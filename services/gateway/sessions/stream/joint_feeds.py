"""Joint positions for the sockets that show them: those of a session come once, however many sockets look at it.

A robot may send them by NATS, where no quota holds, and every socket has to be served by this process's one connection
and one event loop. Only the newest matter to who looks: what a tenant sends faster than it may be shown is left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from pydantic import ValidationError

from contracts.limits import MIB
from contracts.session import Session, telemetry_subject
from contracts.telemetry import JointBatch

log = logging.getLogger(__name__)

#: Batches of a tenant that wait; beyond, its oldest are left out.
_WAITING: Final = 256
_WAITING_BYTES: Final = 8 * MIB
#: A batch that has waited longer is left out for a newer one.
_OLDEST_S: Final = 0.5
#: A tenant's batches are parsed and sent for so long; then it rests: it uses a quarter of the event loop at most.
_WORK_S: Final = 0.001
_REST: Final = 3
#: What it costs to send one to a socket, whose own task does it, and for each of its characters.
_SEND_S: Final = 5e-5
_SEND_S_PER_CHAR: Final = 4e-9


class JointReader(Protocol):
    """Backlog of a socket that shows joints."""

    def set_joints(self, source: str, text: str, /) -> None:
        """Replace the joints of one robot."""


class _Feed:
    """The joints of one session, and who looks at them."""

    def __init__(self) -> None:
        self.readers: set[JointReader] = set()
        self.subscribing = asyncio.Lock()
        self.subscription: Subscription | None = None


class _Batch(NamedTuple):
    feed: _Feed
    body: bytes
    #: When it came, by the monotonic clock.
    at_s: float


class _Tenant:
    """The feeds of one tenant by session, and what of them waits to be parsed."""

    def __init__(self) -> None:
        self.feeds: dict[str, _Feed] = {}
        self._waiting: deque[_Batch] = deque()
        self._waiting_bytes = 0
        self._showing: asyncio.Task[None] | None = None
        #: What was used since the last rest.
        self._spent_s = 0.0

    def put(self, feed: _Feed, body: bytes) -> None:
        """Add a batch, and leave out the oldest if too many wait."""
        self._waiting.append(_Batch(feed, body, time.monotonic()))
        self._waiting_bytes += len(body)
        while len(self._waiting) > 1 and (len(self._waiting) > _WAITING or self._waiting_bytes > _WAITING_BYTES):
            self._take()
        if self._showing is None or self._showing.done():
            self._showing = asyncio.create_task(self._show_all())

    def close(self) -> None:
        """Leave out what waits."""
        if self._showing is not None:
            self._showing.cancel()

    async def _show_all(self) -> None:
        while self._waiting:
            feed, body, at_s = self._take()
            if self._waiting and time.monotonic() - at_s > _OLDEST_S:
                continue
            begun_s = time.perf_counter()
            shown = _shown(body)
            await self._rest_after(time.perf_counter() - begun_s)
            if shown is None:
                continue
            source, text = shown
            for reader in tuple(feed.readers):
                if reader in feed.readers:  # it may have left meanwhile
                    reader.set_joints(source, text)
                    await self._rest_after(_SEND_S + len(text) * _SEND_S_PER_CHAR)

    async def _rest_after(self, spent_s: float) -> None:
        self._spent_s += spent_s
        if self._spent_s >= _WORK_S:
            rest_s, self._spent_s = self._spent_s * _REST, 0.0
            await asyncio.sleep(rest_s)

    def _take(self) -> _Batch:
        batch = self._waiting.popleft()
        self._waiting_bytes -= len(batch.body)
        return batch


class JointFeeds:
    """The joints of all sessions that are shown by this process."""

    def __init__(self, client: Client) -> None:
        """Use a connection."""
        self._client = client
        self._tenants: dict[str, _Tenant] = {}

    @asynccontextmanager
    async def shown(self, session: Session, reader: JointReader) -> AsyncIterator[None]:
        """Pass the joints of a session to a reader while the block runs."""
        tenant = self._tenants.setdefault(session.tenant, _Tenant())
        feed = tenant.feeds.setdefault(session.id, _Feed())
        feed.readers.add(reader)
        try:
            async with feed.subscribing:
                if feed.subscription is None:
                    feed.subscription = await self._subscribe(tenant, feed, session)
            yield
        finally:
            feed.readers.discard(reader)
            if not feed.readers:
                del tenant.feeds[session.id]
                if not tenant.feeds:
                    tenant.close()
                    del self._tenants[session.tenant]
                if feed.subscription is not None and not self._client.is_closed:
                    await feed.subscription.unsubscribe()

    async def _subscribe(self, tenant: _Tenant, feed: _Feed, session: Session) -> Subscription:
        async def on_joints(msg: Msg) -> None:
            if feed.readers:
                tenant.put(feed, msg.data)

        return await self._client.subscribe(telemetry_subject(session.tenant, session.id, "joints"), cb=on_joints)


def _shown(body: bytes) -> tuple[str, str] | None:
    """Return whose joints a batch has, and the message that shows them; None if it cannot be read."""
    try:
        batch = JointBatch.model_validate_json(body)
    except ValidationError:
        log.debug("invalid joints")
        return None
    return batch.source, '{"type":"joints",' + batch.model_dump_json(exclude_none=True)[1:]
