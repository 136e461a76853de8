"""TLS settings without certificates, for servers on this machine and their clients.

A client of httpx reads all certificates otherwise: 25 ms of CPU time, though none of these servers has TLS. Services
and workers read them twice when they import aiohttp, 90 ms: a seventh of a worker's start.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Final

NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
#: Environment of tests and of the services and workers that they start: one authority, which has signed nothing.
ONE_AUTHORITY: Final = {"SSL_CERT_FILE": str(Path(__file__).with_name("one_authority.pem"))}


#: Environment of the test processes: where the system's authorities are, if a variable said so.
_KEPT: Final = {name: f"TESTS_INHERITED_{name}" for name in ONE_AUTHORITY}


def trust_one_authority() -> None:
    """Make this process, and those that it starts, read one authority, also where a variable names all of the system.

    A test process inherits what the process that distributes the tests has set.
    """
    for name, value in ONE_AUTHORITY.items():
        inherited = os.environ.get(name)  # noqa: TID251 - a setting of OpenSSL
        if inherited not in (None, value):
            os.environ[_KEPT[name]] = inherited  # noqa: TID251
        os.environ[name] = value  # noqa: TID251


def environment_with_authorities() -> dict[str, str]:
    """Return the environment of this process with the system's authorities, for a program that downloads."""
    environment = dict(os.environ.items() - ONE_AUTHORITY.items())  # noqa: TID251 - of another program
    for name, kept in _KEPT.items():
        if kept in environment:
            environment[name] = environment.pop(kept)
    return environment
