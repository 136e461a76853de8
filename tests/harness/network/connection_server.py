"""Base class of servers that a test runs in its own event loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Self

from kit.tasks import end
from tests.harness.servers.embedded import HOST

_HEAD_BYTES = 2**22


class ConnectionServer(ABC):
    """Serves each connection in a task, until the test ends."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Return the port; before the start 0, if it is not chosen."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else self._port

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, self._port, limit=_HEAD_BYTES)
        self._port = self.port
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        server, self._server = self._server, None
        server.close()
        await end(*self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:  # the test is over; asyncio would report it as an accident
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
