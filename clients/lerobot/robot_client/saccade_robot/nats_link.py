"""NATS route: publishes without waiting, and tracks by PING and PONG what has arrived."""

from __future__ import annotations

import asyncio
import contextlib
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

#: The route counts as stalled when a message is unconfirmed for so long.
_STALLED_S: Final = 1.5
_QUESTION_S: Final = 1.0
#: Longer than the time after which a silent connection is closed.
_ANSWER_S: Final = 60


class _Client(Client):
    """NATS client that closes the socket of a failed attempt; nats-py leaves it open (seen in 2.16.0)."""

    async def _connect_to_server(self, s: Srv) -> None:
        if isinstance(self._transport, TcpTransport):
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(s)


class NatsLink:
    """Publisher over NATS; each message gets a number, and ``confirmed`` is the last number that has arrived.

    A publish returns before anything is sent. The server answers a PING after all messages before it, so the PONG
    confirms them; messages that were not confirmed before a disconnect may be lost.
    """

    def __init__(
        self, target: NatsTarget, on_confirmed: Callable[[int], None], on_lost: Callable[[], None], every_s: float
    ) -> None:
        """Prepare; nothing is connected yet. Every ``every_s`` a PING confirms what was published."""
        self._every_s = every_s
        self._target = target
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost
        self._client = _Client()
        self._published = 0
        self._confirmed = 0
        self._ping: asyncio.Future[None] | None = None
        self._oldest_s: float | None = None
        self._broke_s = time.monotonic()
        self._last_error = ""
        self.reconnects = 0
        self.errors = 0

    @property
    def unconfirmed(self) -> int:
        """Number of messages that may not have arrived."""
        return self._published - self._confirmed

    @property
    def confirmed(self) -> int:
        """Number of the last message that arrived or was lost with its connection."""
        return self._confirmed

    @property
    def flowing(self) -> bool:
        """Whether published messages arrive at present."""
        stuck = self._oldest_s is not None and time.monotonic() - self._oldest_s > _STALLED_S
        return self._client.is_connected and not stuck

    @property
    def down_s(self) -> float:
        """Time since messages stopped arriving, s."""
        if self.flowing:
            return 0.0
        return time.monotonic() - (self._broke_s if self._oldest_s is None else self._oldest_s)

    async def run(self) -> None:
        """Connect, however long that takes, and confirm published messages until cancelled."""
        await self._connect()
        while True:
            await asyncio.sleep(self._every_s)
            if self._client.is_closed:
                # The server refused the credentials: reconnecting with the same ones cannot succeed soon.
                await asyncio.sleep(5)
                self._client = _Client()
                await self._connect()
            else:
                self._send_ping()

    async def confirm(self, timeout_s: float) -> None:
        """Wait until all that was published is confirmed, for so long at most."""
        end_s = time.monotonic() + timeout_s
        while self.unconfirmed and self.flowing and (left_s := end_s - time.monotonic()) > 0:
            self._send_ping()
            if self._ping is not None:
                await asyncio.wait([self._ping], timeout=left_s)

    def _send_ping(self) -> None:
        """Send a PING to confirm all published messages, unless one is pending."""
        if self._ping is None and self.unconfirmed and self._client.is_connected:
            self._ping = asyncio.ensure_future(self._wait_for_pong(self._published))

    async def _wait_for_pong(self, number: int) -> None:
        try:
            # No short timeout: a PONG after a cancelled PING breaks nats-py.
            await self._client.flush(_ANSWER_S)
        except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            self._failed(error)
        else:
            self._confirmed = number
            self._oldest_s = time.monotonic() if self._published > number else None
            self._on_confirmed(number)
        finally:
            self._ping = None

    async def publish(self, subject: str, body: bytes, headers: dict[str, str] | None = None) -> int | None:
        """Publish and return the message's number, None on failure; it has arrived when that number is confirmed."""
        try:
            await self._client.publish(subject, body, headers=headers)
        except (nats.errors.Error, OSError) as error:
            self._failed(error)
            return None
        self._published += 1
        if self._oldest_s is None:
            self._oldest_s = time.monotonic()
        return self._published

    async def measure_clock(self) -> list[Exchange]:
        """Measure time exchanges with the server; empty if it does not answer."""
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
        if self._ping is not None:
            self._ping.cancel()
        if not self._client.is_closed:
            with contextlib.suppress(OSError):  # nats-py raises it when the server is away
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
        # Of a cluster there are several, of which the client uses one that answers.
        urls = [address.strip() for address in self._target.url.split(",") if address.strip()]
        try:
            await self._client.connect(
                urls,
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
        # Log repeated errors once.
        if self._last_error != (text := str(error) or type(error).__name__):
            self._last_error = text
            log.warning("nats: %s", text)

    async def _on_error(self, error: Exception) -> None:
        self._failed(error)

    async def _on_disconnected(self) -> None:
        if self._ping is not None:
            # The PONG cannot come any more.
            self._ping.cancel()
        self._confirmed = self._published
        self._broke_s = time.monotonic() if self._oldest_s is None else self._oldest_s
        self._oldest_s = None
        self._on_lost()

    async def _on_reconnected(self) -> None:
        self.reconnects += 1
        self._last_error = ""
        log.info("nats: reconnected")
