"""What a session's worker would hear of a robot on NATS, kept in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.telemetry import JointBatch, JointSample
from kit.bus.connection import connect
from tests.harness.servers.embedded import NatsServer
from tests.harness.sessions.robot_server import SESSION, subjects


def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)


def counted(samples: Sequence[JointSample]) -> list[int]:
    """Return the numbers of samples, counted from the first."""
    return [sample.seq - samples[0].seq for sample in samples]


class TelemetryListener:
    """Subscribes before the test begins and ends when all has come that was sent."""

    def __init__(self, server: NatsServer, session_id: str = SESSION) -> None:
        self._subjects = subjects(session_id)
        self.batches: list[JointBatch] = []
        self.frames: list[tuple[dict[str, str], bytes]] = []
        self._server = server
        self._listens = threading.Event()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()))

    def samples(self) -> list[JointSample]:
        """Return all samples in the order in which they came, those that came again left out."""
        seen: dict[int, JointSample] = {}
        for batch in self.batches:
            for sample in batch.samples:
                assert seen.setdefault(sample.seq, sample) == sample
        return list(seen.values())

    async def subscribe(self, client: Client) -> None:
        """Listen to joints and frames."""

        async def joints(message: Msg) -> None:
            self.batches.append(JointBatch.model_validate_json(message.data))

        async def frames(message: Msg) -> None:
            self.frames.append((dict(message.headers or {}), message.data))

        await client.subscribe(self._subjects["joints"], cb=joints)
        await client.subscribe(self._subjects["frames"], cb=frames)

    async def _listen(self) -> None:
        client = await connect(self._server.settings, "listener")
        await self.subscribe(client)
        await client.flush()
        self._listens.set()
        while not self._ends.is_set():
            await asyncio.sleep(0.01)
        await client.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listens.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(timeout=30)
