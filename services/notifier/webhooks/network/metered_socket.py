"""Sockets to receivers: only to allowed addresses, with a limit on the bytes received per attempt.

aiohttp limits a header and a body, but not what comes before them: line breaks, endless interim responses, bytes on an
idle connection. Each of these can keep the processor busy for as long as an attempt may take, for all webhooks of the
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
from services.notifier.webhooks.network.address_guard import AddressGuard

if TYPE_CHECKING:
    from aiohttp.connector import Connection

#: Limit per attempt: the response's header, the part of its body that is read, and the overhead of TLS.
RECEIVED_BYTES: Final = 128 * KIB
#: Limit per read: thousands of tiny chunks would be parsed without a pause.
_READ_BYTES: Final = 16 * KIB

_open: WeakValueDictionary[int, MeteredSocket] = WeakValueDictionary()


class ReceivedTooMuchError(ConnectionAbortedError):
    """A receiver sent more bytes than the limit of an attempt."""


class MeteredSocket(socket.socket):
    """A socket that closes its connection when its limit is used up; asyncio reads by both methods."""

    remaining_bytes = RECEIVED_BYTES

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
            raise ReceivedTooMuchError("the receiver sent more than an attempt may receive")
        return min(self.remaining_bytes, _READ_BYTES)


class MeteredResponse(aiohttp.ClientResponse):
    """A response with the full limit, whatever was received on its connection before."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Reset the limit and wait for the response; called by aiohttp after the request was sent."""
        if connection.transport is not None:
            _reset_limit(connection.transport)
        return await super().start(connection)


def guarded_socket_factory(guard: AddressGuard) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """Return aiohttp's socket factory: the last check of an address before the connection."""

    def guarded_socket(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        guard.check(str(address[0]))
        metered = MeteredSocket(family, kind, protocol)
        _open[metered.fileno()] = metered
        return metered

    return guarded_socket


def _reset_limit(transport: asyncio.BaseTransport) -> None:
    """Reset the limit of a connection's socket; asyncio only shows a wrapper of it, and its file descriptor."""
    wrapper = transport.get_extra_info("socket")
    metered = _open.get(wrapper.fileno()) if wrapper is not None else None
    if metered is not None:
        metered.remaining_bytes = RECEIVED_BYTES
