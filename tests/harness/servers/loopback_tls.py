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


def environment_with_authorities() -> dict[str, str]:
    """Return the environment of this process with the system's authorities, for a program that downloads."""
    return dict(os.environ.items() - ONE_AUTHORITY.items())  # noqa: TID251 - of another program
