"""The connection to NATS: it is never waited for, knows what has arrived, and stops taking more when nothing does."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import nats.errors
from nats.aio.client import Client, RawCredentials, Srv
from nats.aio.transport import TcpTransport

from saccade_robot.clock import CLOCK_PROBES, Exchange, now_s
from saccade_robot.target import NatsTarget

log = logging.getLogger(__name__)

#: Published and not confirmed for so long, the way is taken for stuck; a way there and back may be long.
_STUCK_S: Final = 1.5
_QUESTION_S: Final = 1.0
#: Longer than a silent connection is kept.
_ANSWER_S: Final = 60


class _Client(Client):
    """nats-py's client, which leaves the socket of a failed attempt open (seen in 2.16.0)."""

    async def _connect_to_server(self, s: Srv) -> None:
        if isinstance(self._transport, TcpTransport):
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)


class NatsLink:
    """Publishes, and tells by marks how far what was published has arrived at the server.

    A publish returns before anything is sent. The server answers a PING after all that came before it, so its PONG
    confirms that; whatever was not confirmed when the connection broke may be lost.
    """

    def __init__(
        self, target: NatsTarget, on_confirmed: Callable[[int], None], on_lost: Callable[[], None], every_s: float
    ) -> None:
        """Connect to nothing yet; what was published is asked for ``every_s``."""
        self._every_s = every_s
        self._target = target
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost
        self._client = _Client()
        self._published = 0
        self._confirmed = 0
        self._asking: asyncio.Future[None] | None = None
        self._oldest_s: float | None = None
        self._broke_s = time.monotonic()
        self._said = ""
        self.reconnects = 0
        self.errors = 0

    @property
    def unconfirmed(self) -> int:
        """Count messages that may not have arrived."""
        return self._published - self._confirmed

    @property
    def confirmed(self) -> int:
        """Give the mark up to which all has arrived, or was given up with its connection."""
        return self._confirmed

    @property
    def flowing(self) -> bool:
        """Tell whether what is published arrives."""
        stuck = self._oldest_s is not None and time.monotonic() - self._oldest_s > _STUCK_S
        return self._client.is_connected and not stuck

    @property
    def down_s(self) -> float:
        """Tell for how long nothing has arrived."""
        if self.flowing:
            return 0.0
        return time.monotonic() - (self._broke_s if self._oldest_s is None else self._oldest_s)

    async def run(self) -> None:
        """Connect, however long that takes, and have what is published confirmed; ends when cancelled."""
        await self._connect()
        while True:
            await asyncio.sleep(self._every_s)
            if self._client.is_closed:
                # The server has refused these credentials: a new connection with the same ones ends alike, slower.
                await asyncio.sleep(5)
                self._client = _Client()
                await self._connect()
            else:
                self._ask()

    async def confirm(self, timeout_s: float) -> None:
        """Wait until all that was published is confirmed, for so long at most."""
        end_s = time.monotonic() + timeout_s
        while self.unconfirmed and self.flowing and (left_s := end_s - time.monotonic()) > 0:
            self._ask()
            if self._asking is not None:
                await asyncio.wait([self._asking], timeout=left_s)

    def _ask(self) -> None:
        """Ask for the confirmation of all that was published, unless an answer is awaited."""
        if self._asking is None and self.unconfirmed and self._client.is_connected:
            self._asking = asyncio.ensure_future(self._asked(self._published))

    async def _asked(self, mark: int) -> None:
        try:
            # Not cut short while the connection lasts: an answer to a question that was given up breaks nats-py.
            await self._client.flush(_ANSWER_S)
        except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            self._failed(error)
        else:
            self._confirmed = mark
            self._oldest_s = time.monotonic() if self._published > mark else None
            self._on_confirmed(mark)
        finally:
            self._asking = None

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int | None:
        """Publish and give the mark whose confirmation tells that it has arrived; None when it could not be."""
        try:
            await self._client.publish(subject, body, headers=headers)
        except (nats.errors.Error, OSError) as error:
            self._failed(error)
            return None
        self._published += 1
        if self._oldest_s is None:
            self._oldest_s = time.monotonic()
        return self._published

    async def ask_time(self) -> list[Exchange]:
        """Ask for the server's time some times; empty when nobody answers."""
        exchanges: list[Exchange] = []
        if self._target.clock is None or not self._client.is_connected:
            return exchanges
        for _ in range(CLOCK_PROBES):
            sent_s = now_s()
            try:
                answer = await self._client.request(self._target.clock, b"", timeout=_QUESTION_S)
                exchanges.append(Exchange(sent_s, float(json.loads(answer.data)["time_s"]), now_s()))
            except (nats.errors.Error, OSError, asyncio.TimeoutError, ValueError, KeyError, TypeError):
                break
        return exchanges

    async def close(self) -> None:
        """Close the connection."""
        if self._asking is not None:
            self._asking.cancel()
        if not self._client.is_closed:
            await self._client.close()

    async def _connect(self) -> None:
        options: dict[str, Any] = {}
        if self._target.credentials:
            options["user_credentials"] = RawCredentials(self._target.credentials)
        elif self._target.user:
            options |= {"user": self._target.user, "password": self._target.password}
        if self._target.inbox_prefix:
            options["inbox_prefix"] = self._target.inbox_prefix.encode()
        if self._target.url.startswith("tls://"):
            options["tls"] = ssl.create_default_context()
        try:
            await self._client.connect(
                self._target.url,
                name="saccade-robot",
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,  # type: ignore[arg-type]
                connect_timeout=2,
                ping_interval=2,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                **options,
            )
        except (nats.errors.Error, OSError, ValueError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        # Every try fails alike while the server is away: once is enough.
        if self._said != (said := str(error) or type(error).__name__):
            self._said = said
            log.warning("nats: %s", said)

    async def _on_error(self, error: Exception) -> None:
        self._failed(error)

    async def _on_disconnected(self) -> None:
        if self._asking is not None:
            # Its answer would have come over the connection that is gone.
            self._asking.cancel()
        self._confirmed = self._published
        self._broke_s = time.monotonic() if self._oldest_s is None else self._oldest_s
        self._oldest_s = None
        self._on_lost()

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        self._said = ""
        log.info("nats: reconnected")
