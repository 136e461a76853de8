"""Loopback ports for the embedded servers: those of last time where they are free."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from cli.failure import Failure

LOOPBACK: Final = "127.0.0.1"
#: Below the range from which systems draw the source ports of outgoing connections: a client that reconnects to
#: a server that is down could otherwise be given the server's own port, and block its restart.
_FIRST, _LAST = 20_000, 32_000


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Tell whether a server could listen there."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """Bind a server's socket.

    Raises:
        OSError: the port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((host, port))
        server.listen(512)
    except BaseException:
        server.close()
        raise
    return server


def listen_or_fail(host: str, port: int) -> socket.socket:
    """Bind the origin's socket.

    Raises:
        Failure: with the option that helps.
    """
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = next(candidate for candidate in range(port + 1, port + 200) if is_free(candidate, host))
            raise Failure(
                f"Port {port} on {host} is taken by another program.",
                code="port_taken",
                hint=f"Use another one, for example --port {other}, or stop what listens there.",
            ) from error
        if error.errno == errno.EACCES:
            raise Failure(
                f"Port {port} may only be used by root.", code="port_not_allowed", hint="Use --port 8080 or higher."
            ) from error
        raise Failure(
            f"Cannot listen on {host}: {(error.strerror or str(error)).lower()}.",
            code="host_not_available",
            hint="Use --host with an address of this machine, or leave it out.",
        ) from error


def choose_ports(names: Iterable[str], last_time: Mapping[str, int]) -> dict[str, int]:
    """Give every server a free port of its own."""
    chosen: dict[str, int] = {}
    for name in names:
        candidates = [last_time[name]] if name in last_time else []
        candidates += random.sample(range(_FIRST, _LAST), 200)
        free = (port for port in candidates if port not in chosen.values() and is_free(port))
        port = next(free, None)
        if port is None:
            raise Failure("No free port was found on 127.0.0.1.", code="port_taken", hint="Stop some servers.")
        chosen[name] = port
    return chosen
