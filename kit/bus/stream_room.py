"""Room of tenants in a stream that refuses when it is full: at its end, none takes more than its part of the rest."""

from __future__ import annotations

import time
from typing import Final

from nats.aio.client import Client

from contracts.quotas import part_of_reserve
from kit.bus.connection import request

#: How long what the server says of the stream is used, seconds.
KEPT_S: Final = 5.0


class StreamRoom:
    """Bytes of one stream."""

    def __init__(self, client: Client, stream: str, *, kept_s: float | None = None) -> None:
        """Read the state of ``stream`` from the server when it is needed, at most once in ``kept_s``."""
        self._kept_s = KEPT_S if kept_s is None else kept_s
        self._client, self._stream = client, stream
        self._read_at = float("-inf")
        self._bytes = self._max_bytes = 0

    async def part_bytes(self, tenants: int) -> int | None:
        """Return how many bytes a tenant may have while ``tenants`` use the stream; None while there is room for all.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if time.monotonic() - self._read_at > self._kept_s:
            info = await request(self._client, f"STREAM.INFO.{self._stream}", {})
            if "error" not in info:
                self._bytes, self._max_bytes = info["state"]["bytes"], info["config"]["max_bytes"]
                self._read_at = time.monotonic()
        return part_of_reserve(self._bytes, self._max_bytes, tenants)
