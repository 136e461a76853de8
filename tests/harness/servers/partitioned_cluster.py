"""A cluster whose routes lead through proxies: a node can be cut off from the others, and clients still reach it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from kit.tasks import end
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster
from tests.harness.servers.embedded import HOST, free_port

#: Bytes wait and come later, as when a network loses packets for a while; or connections are reset and refused.
PartitionKind = Literal["hold", "reset"]


class RouteProxy:
    """Passes the bytes of one node's connections to another one's route port."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._passing = asyncio.Event()
        self._passing.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, HOST, self.port)

    async def stop(self) -> None:
        """Listen no more, and close what is open."""
        if self._server:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def cut(self, kind: PartitionKind) -> None:
        """Let nothing through."""
        self._passing.clear()
        self._refuses = kind == "reset"
        if self._refuses:
            for writer in self._writers:
                writer.transport.abort()

    def heal(self) -> None:
        """Pass on what waits, and everything that follows."""
        self._refuses = False
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection(HOST, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer), return_exceptions=True)
        self._writers -= {writer, there_writer}

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._passing.wait()
                sink.write(data)
                await sink.drain()
        finally:
            await self._passing.wait()  # the end of a connection is not seen through a partition either
            sink.transport.abort()


class PartitionedCluster(EmbeddedCluster):
    """Three nodes; ``isolate`` cuts one off from the two others, ``heal`` ends that."""

    def __init__(self, folder: Path, *, slow_disks: bool = False) -> None:
        self._proxies: dict[tuple[str, str], RouteProxy] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        super().__init__(folder, slow_disks=slow_disks)

    def isolate(self, node: ClusterNode, kind: PartitionKind) -> None:
        """Cut a node off from the others; its clients stay connected to it."""
        self._act([lambda proxy=proxy: proxy.cut(kind) for pair, proxy in self._proxies.items() if node.name in pair])

    def heal(self) -> None:
        """Let all nodes reach each other again."""
        self._act([proxy.heal for proxy in self._proxies.values()])

    def _act(self, steps: list[Callable[[], None]]) -> None:
        async def act() -> None:
            for step in steps:
                step()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(10)

    def _configure(self, node: ClusterNode, _: list[int], accounts: str) -> None:
        proxies = [RouteProxy(other.route_port) for other in self.nodes if other is not node]
        others = [other.name for other in self.nodes if other is not node]
        self._proxies |= {(node.name, name): proxy for name, proxy in zip(others, proxies, strict=True)}
        super()._configure(node, [proxy.port for proxy in proxies], accounts)
        # Nodes tell each other their addresses, and would connect past the proxies: this one leads nowhere.
        config = node.folder / "nats.conf"
        listening = f"listen: {HOST}:{node.route_port}, "
        text = config.read_text()
        assert listening in text
        config.write_text(text.replace(listening, f"{listening}advertise: '{HOST}:1', "))

    def __enter__(self) -> Self:
        self._thread.start()
        for proxy in self._proxies.values():
            asyncio.run_coroutine_threadsafe(proxy.start(), self._loop).result(10)
        return super().__enter__()

    def __exit__(self, *details: object) -> None:
        super().__exit__(*details)
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end_all(self) -> None:
        """End everything else that runs in this loop."""
        for proxy in self._proxies.values():
            await proxy.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await end(*others)
