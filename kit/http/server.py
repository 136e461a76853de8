"""Runs an ASGI application in the current event loop until it is told to stop, on an address that is safe."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from contracts.errors import SaccadeError
from contracts.limits import MIB
from kit.auth.api_keys import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

#: Requests that still run when the service is told to stop have this long.
_DRAIN_S: Final = 1
_BACKLOG: Final = 512
_UNREAD_MS: Final = 30_000
_MESSAGE_BYTES: Final = 4 * MIB


#: Exit code of a service whose stream is another one: the supervisor starts it again, and it folds anew.
EXIT_RESTART: Final = 75
_ASK_AGAIN_S: Final = 0.3


class CannotServeError(Exception):
    """The service cannot start here; the message says what to do, in one line."""


class _Server(uvicorn.Server):
    """Uvicorn that leaves signals to the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def wait_until_available(what: str, ask: Callable[[], Awaitable[None]]) -> None:
    """Ask a dependency until it answers; that it does not yet is said once."""
    said = False
    while True:
        try:
            await ask()
        except SaccadeError as error:
            if not said:
                log.warning("waiting for %s: %s", what, error.message)
                said = True
            await asyncio.sleep(_ASK_AGAIN_S)
        else:
            return


def stop_on_signals() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def listen(host: str, port: int, *, send_buffer_bytes: int | None = None) -> socket.socket:
    """Bind a listening socket; accepted connections inherit its send buffer's size.

    A connection whose client takes nothing for ``_UNREAD_MS`` is cut by the kernel: no buffer waits for ever.

    Raises:
        CannotServeError: the address is taken or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Without the protocol asyncio does not set TCP_NODELAY on accepted connections: 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
            if send_buffer_bytes:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotServeError(f"Port {port} on {host} is taken: stop what uses it or set another port.") from error
        raise CannotServeError(f"Cannot listen on {host}:{port}: {error.strerror or error}.") from error
    listener.setblocking(False)
    return listener


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    authenticated: bool,
    stop: asyncio.Event,
    send_buffer_bytes: int | None = None,
    protocol: type[asyncio.Protocol] | None = None,
    drain: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until ``stop`` is set. Nobody new is let in then, ``drain`` is awaited, and open requests have a second.

    ``protocol`` is uvicorn's, extended.

    Raises:
        CannotServeError: the address is taken, or is not loopback and nobody is asked for an API key.
    """
    if not authenticated and not is_loopback(host):
        raise CannotServeError(
            f"Refusing to serve {host} without authentication: set SACCADE_API_KEYS_FILE or listen on 127.0.0.1."
        )
    listener = listen(host, port, send_buffer_bytes=send_buffer_bytes)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # the service itself says that it has started
    config = uvicorn.Config(
        app,
        http=protocol or "auto",
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        # What a client writes into X-Forwarded-For is not ours to believe.
        proxy_headers=False,
        timeout_graceful_shutdown=_DRAIN_S,
        timeout_keep_alive=30,
        # A frame that is a little too large is refused by itself; a connection with a much larger one is closed.
        ws_max_size=_MESSAGE_BYTES,
        # Pictures are compressed already.
        ws_per_message_deflate=False,
    )
    server = _Server(config)

    async def end() -> None:
        await stop.wait()
        try:
            for listening in server.servers if server.started else ():
                listening.close()  # else those whose connections are drained would come back to this very process
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
