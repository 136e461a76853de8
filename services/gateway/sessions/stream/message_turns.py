"""Turns of the messages that a client sends over a WebSocket, by its tenant's quota of all its sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from contracts.errors import SaccadeError
from contracts.quotas import QUOTAS, QuotaName
from kit.auth.quotas import Quotas

_QUOTA: Final = QuotaName.SOCKET_MESSAGES
#: Shortest pause: with many sockets of one tenant, each would wake for a single message.
_LEAST_PAUSE_S: Final = 0.05


class MessageTurns:
    """Turns of one socket. While it has none, its client is not read, and its messages wait in its connection."""

    def __init__(self, quotas: Quotas, tenant: str, tell: Callable[[str], None]) -> None:
        """``tell`` is called once, with the reason of the first pause."""
        self._quotas, self._tenant, self._tell = quotas, tenant, tell
        self._told = False

    async def next(self) -> None:
        """Wait until the tenant may send another message."""
        while True:
            try:
                # Refused is the first message only: it waits, and the attempts until its turn refuse no further one.
                return self._quotas.take(self._tenant, _QUOTA, counts=not self._told)
            except SaccadeError as error:
                if not self._told:
                    self._told = True
                    self._tell(f"{error.message} {QUOTAS[_QUOTA].advice}")
                await asyncio.sleep(max(_LEAST_PAUSE_S, error.extra["retry_after_s"]))
