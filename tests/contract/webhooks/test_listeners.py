"""The listeners of tests leave nothing open, whatever their clients do."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings
from urllib.parse import urlsplit

from tests.harness.servers.embedded import HOST
from tests.harness.webhooks.listeners import huge, listening

REQUEST = b"POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


async def leave_a_client_that_does_not_read() -> socket.socket:
    """Return a client whose listener is gone while the kernel takes no more of its answer."""
    async with listening(respond=huge) as flooding:
        client = socket.create_connection((HOST, urlsplit(flooding.url).port or 0))
        client.sendall(REQUEST)
        await flooding.wait(1)
        unread_bytes = -1
        while unread_bytes != (unread_bytes := len(client.recv(2**24, socket.MSG_PEEK))):
            await asyncio.sleep(0.3)
    return client


def test_a_client_that_does_not_read_leaves_no_connection_behind() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        client = asyncio.run(leave_a_client_that_does_not_read())
        gc.collect()
    client.close()
    assert [str(warning.message) for warning in caught if "transport" in str(warning.message)] == []
