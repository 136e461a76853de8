"""Sockets to allowed addresses only, with a limit on the bytes received per request.

aiohttp limits a header and a body, but not what comes before them: line breaks, endless interim responses, bytes on an
idle connection. Each of these can keep the processor busy for as long as a request may take, for all requests of the
process. Here the limit closes the connection.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import aiohttp

from contracts.limits import KIB
from kit.network.address_guard import AddressGuard

if TYPE_CHECKING:
    from aiohttp.connector import Connection

#: Limit per request, by default: the response's header, the part of its body that is read, and the overhead of TLS.
RECEIVED_BYTES: Final = 128 * KIB
#: Limit per read, by default: thousands of tiny chunks would be parsed without a pause.
READ_BYTES: Final = 16 * KIB

_open: WeakValueDictionary[int, MeteredSocket] = WeakValueDictionary()


class ReceivedTooMuchError(ConnectionAbortedError):
    """A server sent more bytes than the limit of a request."""


class MeteredSocket(socket.socket):
    """A socket that closes its connection when its limit is used up; asyncio reads by both methods."""

    def __init__(
        self, family: int, kind: int, protocol: int, limit_bytes: int = RECEIVED_BYTES, read_bytes: int = READ_BYTES
    ) -> None:
        """Create a socket that receives up to ``limit_bytes`` per request, and ``read_bytes`` at a time."""
        super().__init__(family, kind, protocol)
        self.limit_bytes = self.remaining_bytes = limit_bytes
        self._read_bytes = read_bytes

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive as ``socket`` does.

        Raises:
            ReceivedTooMuchError: the limit is used up.
        """
        received = super().recv(min(bufsize, self._read_limit()), flags)
        self.remaining_bytes -= len(received)
        return received

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive as ``socket`` does.

        Raises:
            ReceivedTooMuchError: the limit is used up.
        """
        count = super().recv_into(buffer, min(nbytes or len(buffer), self._read_limit()), flags)
        self.remaining_bytes -= count
        return count

    def _read_limit(self) -> int:
        if self.remaining_bytes <= 0:
            raise ReceivedTooMuchError("the server sent more than a request may receive")
        return min(self.remaining_bytes, self._read_bytes)


class MeteredResponse(aiohttp.ClientResponse):
    """A response with the full limit, whatever was received on its connection before."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Reset the limit and wait for the response; called by aiohttp after the request was sent."""
        if connection.transport is not None and (metered := _socket_of(connection.transport)):
            metered.remaining_bytes = metered.limit_bytes
        return await super().start(connection)


def guarded_socket_factory(
    guard: AddressGuard, limit_bytes: int = RECEIVED_BYTES, *, read_bytes: int = READ_BYTES
) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Return aiohttp's socket factory: the last check of an address before the connection."""

    def guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        guard.check(str(address[0]))
        metered = MeteredSocket(family, kind, protocol, limit_bytes, read_bytes)
        _open[metered.fileno()] = metered
        return metered

    return guarded_socket


def allow_more(response: aiohttp.ClientResponse, more_bytes: int) -> None:
    """Raise the limit of a response's connection: its status and header were read, now its body may follow."""
    connection = response.connection
    if connection is not None and connection.transport is not None and (found := _socket_of(connection.transport)):
        found.remaining_bytes += more_bytes


def _socket_of(transport: asyncio.BaseTransport) -> MeteredSocket | None:
    """Return a connection's socket; asyncio only shows a wrapper of it, and its file descriptor."""
    wrapper = transport.get_extra_info("socket")
    return _open.get(wrapper.fileno()) if wrapper is not None else None
