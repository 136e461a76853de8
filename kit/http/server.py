"""HTTP server: runs an ASGI application in the current event loop until it is stopped, on a safe address."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib.util
import logging
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final, Literal

import uvicorn

from contracts.errors import SaccadeError
from contracts.limits import REQUEST_HEAD_BYTES
from kit.auth.api_keys import is_loopback
from kit.http.message_limit import MESSAGE_BYTES
from kit.http.protocol import HttpProtocol
from kit.http.request_target import AbsoluteTargets
from kit.stop_deadline import STOP_S, StopDeadline, prepare_stop

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from kit.http.passed_connections import PassedConnections

log = logging.getLogger(__name__)

#: Grace period of open requests when the service stops.
_DRAIN_S: Final = 1
_BACKLOG: Final = 512
_UNACKNOWLEDGED_MS: Final = 30_000
#: Open files that a service may need: its default limit is often 1,024.
_OPEN_FILES: Final = 65_536


#: Exit code of a service whose stream was recreated: the supervisor restarts it, and it rebuilds its projections.
EXIT_RESTART: Final = 75
_RETRY_S: Final = 0.3
#: What clients have uvicorn log as an error: a WebSocket that was refused with an answer, and text that is not UTF-8.
_BY_CLIENTS: Final = frozenset(
    {"ASGI callable returned without completing handshake.", "Invalid UTF-8 sequence received from client."}
)


class CannotServeError(Exception):
    """The service cannot start; the message says what to do, in one line."""


class _FaultsOfOurs(logging.Filter):
    """Leaves what clients do wrong out of the log, in which anybody could write otherwise."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.msg not in _BY_CLIENTS


_FAULTS_OF_OURS: Final = _FaultsOfOurs()


class _Server(uvicorn.Server):
    """Uvicorn's server without its signal handlers, which the service has, and with connections from the origin."""

    def __init__(
        self, config: uvicorn.Config, passed: PassedConnections | None, prepare: Callable[[socket.socket], None]
    ) -> None:
        super().__init__(config)
        self._passed = passed
        self._prepare = prepare

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._passed and self.started:
            self._passed.begin(self._new_protocol, self._prepare)

    def _new_protocol(self) -> HttpProtocol:
        create: Callable[..., HttpProtocol] = self.config.http_protocol_class  # type: ignore[assignment]
        return create(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


async def wait_until_available(name: str, call: Callable[[], Awaitable[None]]) -> None:
    """Call a dependency until it succeeds; a failure is logged once."""
    logged = False
    while True:
        try:
            await call()
        except SaccadeError as error:
            if not logged:
                log.warning("waiting for %s: %s", name, error.message)
                logged = True
            await asyncio.sleep(_RETRY_S)
        else:
            return


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a process that has not ended ``STOP_S`` later is ended."""
    stop = asyncio.Event()

    def say(sentence: str, stacks: list[str]) -> None:
        log.error(sentence, extra={"stacks": stacks})

    prepare_stop(StopDeadline(STOP_S, say), (signal.SIGTERM, signal.SIGINT), stop.set)
    return stop


def listen(host: str, port: int, *, send_buffer_bytes: int | None = None) -> socket.socket:
    """Return a listening socket; accepted connections inherit its send buffer's size.

    A connection whose client acknowledges nothing for ``_UNACKNOWLEDGED_MS`` is closed by the kernel, so that no buffer
    waits without end.

    Raises:
        CannotServeError: the address is in use or not available.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without the protocol asyncio does not set TCP_NODELAY on accepted connections: 40 ms per response.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _set_options(listener, send_buffer_bytes)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotServeError(
                f"Port {port} on {host} is already in use: stop the program that uses it, or set another port."
            ) from error
        raise CannotServeError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from error
    listener.setblocking(False)
    return listener


def _set_options(connection: socket.socket, send_buffer_bytes: int | None) -> None:
    """Set the options of a connection, or of a listening socket whose connections inherit them."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does not for every passed connection
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    if send_buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)


def raise_file_limit() -> None:
    """Allow this process as many open files as the system lets it: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _socket_protocol() -> type[asyncio.Protocol] | Literal["none"]:
    """Return the protocol of WebSockets; none where its library is not installed, which only the gateway needs."""
    if importlib.util.find_spec("websockets") is None:
        return "none"
    from kit.http.socket_protocol import SocketProtocol  # noqa: PLC0415 - not every service has it

    return SocketProtocol


def _config(app: ASGIApp, protocol: type[HttpProtocol]) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    # The service itself logs its start, and invalid requests are no warning: anybody can send them.
    errors = logging.getLogger("uvicorn.error")
    errors.setLevel(logging.ERROR)
    errors.addFilter(_FAULTS_OF_OURS)
    return uvicorn.Config(
        AbsoluteTargets(app),
        http=protocol,
        ws=_socket_protocol(),
        h11_max_incomplete_event_size=REQUEST_HEAD_BYTES,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        # A client can write anything into X-Forwarded-For.
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_S,
        ws_max_size=MESSAGE_BYTES,
        # Images are compressed already.
        ws_per_message_deflate=False,
    )


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    authenticated: bool,
    stop: asyncio.Event,
    send_buffer_bytes: int | None = None,
    protocol: type[HttpProtocol] = HttpProtocol,
    passed: PassedConnections | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until ``stop`` is set; then accept no connection, await ``drain``, and give open requests a second.

    Connections that the origin accepted come by ``passed``.

    Raises:
        CannotServeError: the address is in use, or is not loopback although no API key is required.
    """
    if not authenticated and not is_loopback(host):
        raise CannotServeError(
            f"Refusing to serve {host} without authentication: set SACCADE_API_KEYS_FILE or listen on 127.0.0.1."
        )
    raise_file_limit()
    listener = listen(host, port, send_buffer_bytes=send_buffer_bytes)
    config = _config(app, protocol)
    server = _Server(config, passed, lambda connection: _set_options(connection, send_buffer_bytes))

    async def end() -> None:
        await stop.wait()
        if passed:
            passed.stop()
        try:
            for listening in server.servers if server.started else ():
                listening.close()  # else drained clients would reconnect to this process
            if drain:
                await drain()
        finally:
            server.should_exit = True

    ending = asyncio.ensure_future(end())
    try:
        await server.serve(sockets=[listener])
    finally:
        ending.cancel()
        listener.close()
        if passed:
            passed.close()
