"""Sockets to receivers: only to addresses that a guard lets through, and taking in only so much for each attempt.

aiohttp bounds a header and a body, but not what comes before them: line breaks, interim answers without an end, bytes
on a connection that rests. Each keeps a processor busy for as long as an attempt may take, for all webhooks of the
process. Here they end with the connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import aiohttp

from contracts.limits import KIB
from services.notifier.webhooks.sending.address_guard import AddressGuard

if TYPE_CHECKING:
    from aiohttp.connector import Connection

#: What an attempt takes in: the answer's header, as much of its body as is read, and what TLS adds.
RECEIVED_BYTES: Final = 128 * KIB
#: Taken in at once: thousands of tiny chunks are parsed without a pause.
_AT_ONCE_BYTES: Final = 16 * KIB

_open: WeakValueDictionary[int, MeteredSocket] = WeakValueDictionary()


class ReceivedTooMuchError(ConnectionAbortedError):
    """A receiver sent more than anybody reads."""


class MeteredSocket(socket.socket):
    """A socket that ends its connection when more comes in than it has left; asyncio reads by both methods."""

    left_bytes = RECEIVED_BYTES

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as a socket does.

        Raises:
            ReceivedTooMuchError: nothing is left.
        """
        received = super().recv(min(bufsize, self._at_once()), flags)
        self.left_bytes -= len(received)
        return received

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive as a socket does.

        Raises:
            ReceivedTooMuchError: nothing is left.
        """
        count = super().recv_into(buffer, min(nbytes or len(buffer), self._at_once()), flags)
        self.left_bytes -= count
        return count

    def _at_once(self) -> int:
        if self.left_bytes <= 0:
            raise ReceivedTooMuchError("the receiver sent more than anybody reads")
        return min(self.left_bytes, _AT_ONCE_BYTES)


class MeteredResponse(aiohttp.ClientResponse):
    """An answer that has the whole measure, whatever came in on its connection before."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the answer, as aiohttp has it do when the request was sent."""
        if connection.transport is not None:
            _refill(connection.transport)
        return await super().start(connection)


def guarded_socket_factory(guard: AddressGuard) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Make what aiohttp makes each socket with: the last to see an address before the connection."""

    def guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        guard.check(str(address[0]))
        made = MeteredSocket(family, kind, protocol)
        _open[made.fileno()] = made
        return made

    return guarded_socket


def _refill(transport: asyncio.BaseTransport) -> None:
    """Find the socket of a connection; asyncio shows only a wrapper of it, and its number."""
    shown = transport.get_extra_info("socket")
    metered = _open.get(shown.fileno()) if shown is not None else None
    if metered is not None:
        metered.left_bytes = RECEIVED_BYTES
