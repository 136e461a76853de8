"""Crash injection: a process, simulated inside the test's own, that ends at a chosen await. It is never resumed, and
its connections send nothing more.

Points are counted as they are passed, so that a test can run once for each: every await of a coroutine twice, when it
begins and when it is over, and so every request of Modal's client, which runs in a thread of its own. A bucket needs no
connection of its own: nothing but the coroutine itself writes to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from grpclib.client import Channel
from modal._utils.grpc_utils import custom_detail_codec
from modal_proto import api_grpc

from tests.harness.servers.embedded import HOST
from tests.modal_loopback.listener import Listener

Side = Literal["before", "after"]


@dataclass(frozen=True, order=True)
class CrashPoint:
    """A point where the process may crash."""

    side: Side
    place: str
    #: How often the process passed this place before.
    times: int = 0


class CrashInjector:
    """Records the points that a process passes while it is ``armed``, and crashes it at the chosen one.

    A point is the side of an await or of a request, where that is, and how often it came there before.
    """

    def __init__(self, at: CrashPoint | None) -> None:
        """Choose the point; without one the process survives."""
        self.passed: list[CrashPoint] = []
        self.dead = asyncio.Event()
        #: It has passed its last point, or has crashed.
        self.over = asyncio.Event()
        self.armed = False
        self._at = at
        self._wires: list[SeverableConnection] = []

    def wire(self, url: str) -> SeverableConnection:
        """Make a connection to a server that ends with the process."""
        self._wires.append(SeverableConnection(url))
        return self._wires[-1]

    async def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a part of the process."""
        return await _Steps(coroutine, self)

    async def reach(self, side: Side, place: str) -> None:
        """Pass a point, or block for ever after the crash."""
        if not self.passes(side, place):
            await asyncio.Future()

    def passes(self, side: Side, place: str) -> bool:
        """Record a point; return whether the process is still alive."""
        if self.armed and not self.dead.is_set():
            times = sum((one.side, one.place) == (side, place) for one in self.passed)
            self.passed.append(CrashPoint(side, place, times))
            if self.passed[-1] == self._at:
                self._die()
        return not self.dead.is_set()

    def _die(self) -> None:
        for wire in self._wires:
            wire.cut()
        self.dead.set()
        self.over.set()

    def disarm(self) -> None:
        """Pass the last point."""
        self.armed = False
        self.over.set()


class SeverableConnection:
    """Connections of one process to one server: what was not sent when it dies never is."""

    def __init__(self, to: str) -> None:
        """Lead to a server; ``url`` is what the process dials."""
        self.url = ""
        self._to = urlsplit(to)
        self._writers: list[asyncio.StreamWriter] = []
        self._carrying: set[asyncio.Task[None]] = set()
        self._is_cut = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        self.url = f"{self._to.scheme}://{HOST}:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self) -> None:
        """End all connections at once."""
        self._is_cut = True
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._to.hostname, self._to.port)
        self._writers += [writer, there_writer]
        if self._is_cut:  # while it was dialled
            self.cut()
        self._carrying.add(asyncio.create_task(self._carry(reader, there_writer)))
        self._carrying.add(asyncio.create_task(self._carry(there_reader, writer)))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while (some := await reader.read(65536)) and not self._is_cut:
                writer.write(some)
        writer.transport.abort()


class _Steps:
    """Runs a coroutine from await to await."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], injector: CrashInjector) -> None:
        self._coroutine = coroutine
        self._injector = injector

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[], Any] = functools.partial(self._coroutine.send, None)
        while True:
            try:
                awaited: asyncio.Future[Any] | None = resume()
            except StopIteration as done:
                return done.value
            place = _place(self._coroutine)
            ended = _end_of(awaited)
            try:
                yield from self._pass("before", place)
                try:
                    yield from ended
                    resume = functools.partial(self._coroutine.send, None)
                except asyncio.CancelledError as error:
                    if self._injector.dead.is_set():
                        raise
                    if awaited is not None:
                        awaited.cancel()
                    resume = functools.partial(self._coroutine.throw, error)  # the end of a limit of time, for one
                yield from self._pass("after", place)
            finally:
                if self._injector.dead.is_set():
                    # It unwinds now, and has no connection any more and does not get to wait for anything.
                    with contextlib.suppress(RuntimeError):
                        self._coroutine.close()

    def _pass(self, side: Side, place: str) -> Generator[Any, None, None]:
        if not self._injector.passes(side, place):
            yield from asyncio.get_running_loop().create_future()


def _end_of(awaited: asyncio.Future[Any] | None) -> asyncio.Future[None]:
    """Return the end of a future, to wait for it without ending it: what waits may die, and that cancels nothing."""
    ended = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if awaited is not None and not awaited.cancelled():
            awaited.exception()  # looked at: asyncio need not complain that nobody did
        if not ended.done():
            ended.set_result(None)

    if awaited is None:  # the next turn of the loop
        asyncio.get_running_loop().call_soon(tell, None)
    else:
        awaited.add_done_callback(tell)
    return ended


def _place(coroutine: Any) -> str:
    """Return where a coroutine is suspended: the names of our own functions, outermost first."""
    names = []
    while code := getattr(coroutine, "cr_code", None):
        if "/services/" in code.co_filename or "/kit/" in code.co_filename:
            names.append(code.co_name)
        coroutine = coroutine.cr_await
    return " ".join(names)


class ModalProxy:
    """Proxy of Modal's control plane: the process may crash before and after each request."""

    def __init__(self, to: str, injector: CrashInjector, spawned: Callable[[str, Any], Awaitable[None]]) -> None:
        """Lead to a control plane; ``spawned`` is told of each call that it has taken, before the process is."""
        there = urlsplit(to)
        self.url = ""
        self._channel = Channel(there.hostname, there.port, status_details_codec=custom_detail_codec)
        self._stub = api_grpc.ModalClientStub(self._channel)
        self._injector = injector
        self._spawned = spawned
        #: Calls of this process. A dispatcher that takes over also asks about those of jobs that ended before, beside
        #: what it launches: these requests are no points of a launch, and their number depends on the jobs before.
        self._calls: set[str] = set()
        front = _front_class()()
        front.proxy = self
        self._listener = Listener(front)

    async def __aenter__(self) -> Self:
        self.url = f"http://{HOST}:{await self._listener.listen()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.end()
        self._channel.close()

    async def hand_on(self, rpc: str, stream: Any) -> None:
        """Hand a request on and its answer back, if the process is alive on both sides of it."""
        message = await stream.recv_message()
        is_point = rpc != "FunctionGetOutputs" or message.function_call_id in self._calls
        if is_point:
            await self._injector.reach("before", rpc)
        answer = await getattr(self._stub, rpc)(message, metadata=stream.metadata)
        if rpc == "FunctionMap":
            self._calls.add(answer.function_call_id)
            await self._spawned(answer.function_call_id, message)
        if is_point:
            await self._injector.reach("after", rpc)
        await stream.send_message(answer)


@functools.cache
def _front_class() -> Any:
    """Make the class whose methods hand everything on to its ``proxy``; once: it has over 200 of them."""

    def method(rpc: str) -> Callable[[Any, Any], Awaitable[None]]:
        async def hand_on(front: Any, stream: Any) -> None:
            await front.proxy.hand_on(rpc, stream)

        return hand_on

    methods = {rpc: method(rpc) for rpc in api_grpc.ModalClientBase.__abstractmethods__}
    return type("Front", (api_grpc.ModalClientBase,), methods)
