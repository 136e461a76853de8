"""Loopback ports of the embedded servers: those of the last run if they are free."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterable, Mapping
from typing import Final

from cli.failure import Failure

LOOPBACK: Final = "127.0.0.1"
#: Below the ephemeral range: a client that reconnects to a stopped server could otherwise get the server's own port as
#: its source port, and block the restart.
_FIRST, _LAST = 20_000, 32_000
_UNPRIVILEGED: Final = 1024
_ALL: Final = 65_536


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Check whether a server can listen on a port."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the port is taken or the address is not of this machine.
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


def another_port(port: int, host: str = LOOPBACK) -> int:
    """Return the next free port after one that is taken; after the last one, the first that needs no rights."""
    candidates = (*range(port + 1, min(port + 200, _ALL)), *range(_UNPRIVILEGED, _UNPRIVILEGED + 200))
    return next((candidate for candidate in candidates if is_free(candidate, host)), _UNPRIVILEGED)


def listen_or_fail(host: str, port: int) -> socket.socket:
    """Return the origin's listening socket.

    Raises:
        Failure: the port cannot be used; names the option that helps.
    """
    try:
        return listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            other = another_port(port, host)
            raise Failure(
                f"Port {port} on {host} is used by another program.",
                code="port_taken",
                hint=f"Stop that program, or use another port: --port {other}, with make: ARGS='--port {other}'",
            ) from error
        if error.errno == errno.EACCES:
            raise Failure(
                f"Port {port} can only be used by root.", code="port_not_allowed", hint="Use --port 8080 or higher."
            ) from error
        raise Failure(
            f"Cannot listen on {host}: {(error.strerror or str(error)).lower()}.",
            code="host_not_available",
            hint="Use --host with an address of this machine, or leave it out.",
        ) from error


def choose_ports(names: Iterable[str], last_time: Mapping[str, int], host: str = LOOPBACK) -> dict[str, int]:
    """Return a port for each server that is free on loopback and on ``host``."""
    chosen: dict[str, int] = {}
    for name in names:
        candidates = [last_time[name]] if name in last_time else []
        candidates += random.sample(range(_FIRST, _LAST), 200)
        free = (
            port
            for port in candidates
            if port not in chosen.values() and all(is_free(port, address) for address in {LOOPBACK, host})
        )
        port = next(free, None)
        if port is None:
            raise Failure(
                "No free port on 127.0.0.1.", code="port_taken", hint="Stop some programs that listen on ports."
            )
        chosen[name] = port
    return chosen
