"""A server of event streams whose bytes a test writes, and a note of each request for them."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.harness.network.connection_server import ConnectionServer

_HEAD = b"HTTP/1.1 %b\r\nAccess-Control-Allow-Origin: *\r\nCache-Control: no-store\r\nConnection: close\r\n%b\r\n"
_STREAM = _HEAD % (b"200 OK", b"Content-Type: text/event-stream\r\n")
_OVER = _HEAD % (b"204 No Content", b"")
_CURSOR = re.compile(rb"^last-event-id: ?(.*?)\r$", re.MULTILINE | re.IGNORECASE)

#: Body of one connection: it is ended after its last piece. A number is a pause in seconds.
Body = Sequence[bytes | float]


@dataclass
class Asked:
    """One request for a stream."""

    target: str
    last_event_id: bytes | None
    #: Seconds since the end of the connection before it; None for the first.
    pause_s: float | None


@dataclass
class Script:
    """What one path answers: its bodies, one for each connection, and 204 after the last."""

    bodies: list[Body]
    asked: list[Asked] = field(default_factory=list)
    ended_s: float | None = None

    @property
    def over(self) -> bool:
        """Return whether a client came back after the last body."""
        return len(self.asked) > len(self.bodies)


class ScriptedStreams(ConnectionServer):
    """Serves streams by path; ``hold`` keeps connections open after their bodies until it is released."""

    def __init__(self, bodies: Mapping[str, Sequence[Body]], *, hold: bool = False) -> None:
        super().__init__()
        self.scripts = {path: Script(list(each)) for path, each in bodies.items()}
        self.hold = asyncio.Event()
        if not hold:
            self.hold.set()

    async def _respond(self, _target: str, _writer: asyncio.StreamWriter) -> bool:
        """Answer a request that is for no stream; return whether it was."""
        return False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ")[1].decode()
        if await self._respond(target, writer):
            return
        script = self.scripts[unquote(target.partition("?")[0])]
        now_s = asyncio.get_running_loop().time()
        cursor = _CURSOR.search(head)
        pause_s = None if script.ended_s is None else now_s - script.ended_s
        script.asked.append(Asked(target, cursor[1] if cursor else None, pause_s))
        if script.over:
            writer.write(_OVER)
            await writer.drain()
            return
        writer.write(_STREAM)
        for piece in script.bodies[len(script.asked) - 1]:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        await self.hold.wait()
        script.ended_s = asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def scripted_job(*bodies: Body, hold: bool = False) -> AsyncIterator[tuple[ScriptedStreams, Script]]:
    """Serve the stream of the job ``job_1``."""
    path = "/v1/jobs/job_1/events"
    async with ScriptedStreams({path: bodies}, hold=hold) as streams:
        yield streams, streams.scripts[path]
