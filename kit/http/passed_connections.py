"""Connections that the origin accepted and passes to this service over a channel."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Self

from kit.http.connection_channel import ConnectionChannel
from kit.http.protocol import HttpProtocol, PassedConnection

log = logging.getLogger(__name__)


class PassedConnections:
    """Connections of one service."""

    def __init__(self, end: socket.socket, owns: Callable[[str], bool]) -> None:
        """Take this side's end of a channel; ``owns`` tells whether this service answers a path."""
        self._end = end
        self._owns = owns
        self._channel: ConnectionChannel | None = None
        self._stopping = False
        self._adopting: set[asyncio.Task[None]] = set()

    @classmethod
    def inherited(cls, file_descriptor: int | None, owns: Callable[[str], bool]) -> Self | None:
        """Take the end that the parent process left open; None where there is none."""
        if file_descriptor is None:
            return None
        os.set_inheritable(file_descriptor, False)
        return cls(socket.socket(fileno=file_descriptor), owns)

    def begin(self, protocol: Callable[[], HttpProtocol], prepare: Callable[[socket.socket], None]) -> None:
        """Serve passed connections from now on, each by a new ``protocol``; ``prepare`` sets its socket's options."""

        def adopt(connection: socket.socket, received: bytes) -> None:
            if self._stopping:
                self._give_back(connection, received)
                return
            task = loop.create_task(self._adopt(connection, received, protocol, prepare))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

        loop = asyncio.get_running_loop()
        self._channel = ConnectionChannel(self._end, on_connection=adopt, on_closed=self._on_closed)
        self._channel.announce(ready=True)

    def _on_closed(self) -> None:
        """Stop the service: its supervisor starts it again, with a new channel."""
        if not self._stopping:
            log.error("the channel to the origin has ended: no client can be served")
            signal.raise_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Return connections that are still passed; those that are open stay."""
        self._stopping = True
        if self._channel:
            self._channel.announce(ready=False)

    def close(self) -> None:
        """Close the channel."""
        if self._channel:
            self._channel.close()
        self._end.close()

    async def _adopt(
        self,
        connection: socket.socket,
        received: bytes,
        protocol: Callable[[], HttpProtocol],
        prepare: Callable[[socket.socket], None],
    ) -> None:
        passed = PassedConnection(received, self._owns, self._give_back)

        def with_received_bytes() -> HttpProtocol:
            created = protocol()
            created.passed = passed
            return created

        try:
            prepare(connection)
            await asyncio.get_running_loop().connect_accepted_socket(with_received_bytes, connection)
        except OSError:  # the client has left
            connection.close()

    def _give_back(self, connection: socket.socket, received: bytes) -> None:
        if self._channel is None or not self._channel.pass_connection(connection, received):
            connection.close()
