"""Health of nats-server: whether a stream could not be written."""

from __future__ import annotations

import json
from typing import Final

import nats
import nats.errors

_TIMEOUT_S: Final = 2
_HEALTH: Final = "$SYS.REQ.SERVER.PING.HEALTHZ"


async def nats_write_error(host: str, port: int, user: str, password: str) -> str | None:
    """Return why nats-server cannot write a stream; None if it can, or does not answer.

    After one failed write (a full disk), nats-server 2.15 accepts nothing for that stream until it is restarted, also
    when there is room again; publishes get no answer, and only its health tells why. The user is of the system account.
    """
    try:
        client = await nats.connect(
            f"nats://{host}:{port}",
            user=user,
            password=password,
            connect_timeout=_TIMEOUT_S,
            allow_reconnect=False,
            error_cb=_ignore,
        )
        try:
            answer = json.loads((await client.request(_HEALTH, b"", timeout=_TIMEOUT_S)).data)
        finally:
            await client.close()
    except (OSError, TimeoutError, nats.errors.Error, ValueError):
        return None
    error = str(answer.get("data", {}).get("error", ""))
    return error if "write error" in error else None


async def _ignore(_: Exception) -> None:
    """Ignore a connection error: the next check shows the state again."""
