"""HTTP sessions to addresses that somebody else may have chosen: what all of them share, whatever they are used for.

Addresses are checked when a name is resolved and once more by the socket that connects; a server cannot send without
limit; nothing is decompressed, and no cookie, proxy or password of the environment is used.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

import aiohttp

from kit.network.address_guard import AddressGuard
from kit.network.metered_socket import READ_BYTES, RECEIVED_BYTES, MeteredResponse, guarded_socket_factory
from kit.network.name_lookup import GuardedResolver, Lookup
from kit.network.response_protocol import HeaderFirstConnector, HeaderFirstProtocol

#: Limits of time are those of the caller.
_NO_LIMIT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None)


def guarded_session(
    guard: AddressGuard,
    lookup: Lookup,
    tls: ssl.SSLContext | bool,
    *,
    connector: dict[str, Any],
    protocol: type[HeaderFirstProtocol] = HeaderFirstProtocol,
    response: type[aiohttp.ClientResponse] = MeteredResponse,
    received_bytes: int = RECEIVED_BYTES,
    read_bytes: int = READ_BYTES,
    timeout: aiohttp.ClientTimeout = _NO_LIMIT,
    **options: Any,
) -> aiohttp.ClientSession:
    """Return a session that connects to addresses that ``guard`` allows.

    ``connector`` says how long names and connections are kept; ``received_bytes`` and ``read_bytes`` are the limits of
    a request and of a read. Further options are those of aiohttp's session.
    """
    return aiohttp.ClientSession(
        connector=HeaderFirstConnector(
            protocol,
            resolver=GuardedResolver(lookup, guard),
            socket_factory=guarded_socket_factory(guard, received_bytes, read_bytes=read_bytes),
            ssl=tls,
            **connector,
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        response_class=response,
        timeout=timeout,
        auto_decompress=False,
        trust_env=False,
        **options,
    )
