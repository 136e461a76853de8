"""gRPC server that closes its clients' connections when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from pathlib import Path

import grpclib.server
from grpclib.protocol import H2Protocol
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_grpc

_CLOSE_S = 2.0


class Listener(grpclib.server.Server):
    """Server of one service on 127.0.0.1 or on a Unix socket."""

    def __init__(self, service: api_grpc.ModalClientBase) -> None:
        """Prepare the service; `listen` or `listen_at` starts it."""
        super().__init__([service], status_details_codec=custom_detail_codec)
        self._protocols: weakref.WeakSet[H2Protocol] = weakref.WeakSet()

    def _protocol_factory(self) -> H2Protocol:
        protocol = super()._protocol_factory()
        self._protocols.add(protocol)
        return protocol

    async def listen(self) -> int:
        """Listen on a free port and return it."""
        await self.start("127.0.0.1", 0)
        assert self._server
        return int(self._server.sockets[0].getsockname()[1])

    async def listen_at(self, socket: Path) -> None:
        """Listen on a Unix socket."""
        await self.start(path=str(socket))

    async def end(self) -> None:
        """Reject new requests, cancel running ones, close every connection."""
        self.close()
        for protocol in list(self._protocols):
            if hasattr(protocol, "connection"):
                protocol.connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.wait_closed()
