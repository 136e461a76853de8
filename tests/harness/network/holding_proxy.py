"""A proxy that passes all on, but holds the requests that a pattern finds until it is told to let them go."""

from __future__ import annotations

import asyncio
import contextlib
import re

from kit.tasks import first_of
from tests.harness.network.connection_server import ConnectionServer
from tests.harness.servers.embedded import HOST

#: A request line may come in two pieces.
_KEPT_BYTES = 2048


class HoldingProxy(ConnectionServer):
    """Leads to one port; of a request that it holds, half of the piece that names it passes."""

    def __init__(self, to_port: int, pattern: bytes) -> None:
        super().__init__()
        self._to_port, self._pattern = to_port, re.compile(pattern)
        #: Set once a request is held.
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(HOST, self._to_port)
        try:
            with contextlib.suppress(ConnectionError):
                await first_of(self._requests(reader, to), _pass(there, writer))
        finally:
            to.close()

    async def _requests(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        before = b""
        while piece := await reader.read(65536):
            if self._pattern.search(before + piece) and not self.go_on.is_set():
                half = len(piece) // 2
                to.write(piece[:half])
                await to.drain()
                piece, before = piece[half:], b""
                self.held.set()
                await self.go_on.wait()
            else:
                before = (before + piece)[-_KEPT_BYTES:]
            to.write(piece)
            await to.drain()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
