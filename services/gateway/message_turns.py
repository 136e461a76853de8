"""Turns of the messages that a client sends over a WebSocket, by its tenant's quota of all its sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from contracts.errors import SaccadeError
from contracts.limits import KIB
from contracts.quotas import QUOTAS, QuotaName
from kit.auth.quotas import Quotas

_QUOTA: Final = QuotaName.SOCKET_MESSAGES
#: Shortest pause: with many sockets of one tenant, each would wake for a single message.
_LEAST_PAUSE_S: Final = 0.05
#: What counts as one message: this much of a text, which is parsed, and this much of a picture, which is passed on. The
#: event loop takes about as long for each as for a message of a few bytes.
_TEXT_CHARS: Final = 1 * KIB
_PICTURE_BYTES: Final = 32 * KIB


class MessageTurns:
    """Turns of one socket. While it has none, its client is not read, and its messages wait in its connection."""

    def __init__(self, quotas: Quotas, tenant: str, tell: Callable[[str], None]) -> None:
        """``tell`` is called once, with the reason of the first pause."""
        self._quotas, self._tenant, self._tell = quotas, tenant, tell
        self._told = False

    async def next(self, message: str | bytes = "") -> None:
        """Wait until the tenant may send this message too; a large one counts as several."""
        left = max(1, len(message) // (_TEXT_CHARS if isinstance(message, str) else _PICTURE_BYTES))
        while left > 0:
            left -= await self._take(left)

    async def _take(self, most: int) -> int:
        """Wait until something is left of the quota, and take it: beside small messages, the whole never is."""
        while True:
            try:
                # Refused is the first message only: it waits, and the attempts until its turn refuse no further one.
                return self._quotas.take_some(self._tenant, _QUOTA, most, counts=not self._told)
            except SaccadeError as error:
                if not self._told:
                    self._told = True
                    self._tell(f"{error.message} {QUOTAS[_QUOTA].advice}")
                # Not always just after the same other socket, which would have taken all.
                pause_s = max(_LEAST_PAUSE_S, error.extra["retry_after_s"])
                await asyncio.sleep(pause_s * random.uniform(1, 2))  # noqa: S311 - spreads turns, not a secret
