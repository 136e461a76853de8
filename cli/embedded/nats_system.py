"""Requests to nats-server in its system account: whether a stream could not be written, and a new configuration."""

from __future__ import annotations

import json
from typing import Any, Final

import nats
import nats.errors

from cli.failure import Failure

_TIMEOUT_S: Final = 2
_HEALTH: Final = "$SYS.REQ.SERVER.PING.HEALTHZ"
_STATUS: Final = "$SYS.REQ.SERVER.PING.IDZ"


async def nats_write_error(host: str, port: int, user: str, password: str) -> str | None:
    """Return why nats-server cannot write a stream; None if it can, or does not answer.

    After one failed write (a full disk), nats-server 2.15 accepts nothing for that stream until it is restarted, also
    when there is room again; publishes get no answer, and only its health tells why. The user is of the system account.
    """
    try:
        answer = await _ask(host, port, user, password, _HEALTH)
    except (OSError, TimeoutError, nats.errors.Error, ValueError):
        return None
    error = str(answer.get("data", {}).get("error", ""))
    return error if "write error" in error else None


async def reload_configuration(host: str, port: int, user: str, password: str) -> None:
    """Reload the configuration of nats-server; clients whose users stay the same stay connected.

    Raises:
        Failure: it did not answer, or refused the configuration.
    """
    try:
        status = await _ask(host, port, user, password, _STATUS)
        answer = await _ask(host, port, user, password, f"$SYS.REQ.SERVER.{status['id']}.RELOAD")
    except (OSError, TimeoutError, nats.errors.Error, ValueError, KeyError) as error:
        raise Failure("nats-server did not answer.", code="bus_unavailable", hint="Is `saccade up` running?") from error
    if "error" in answer:
        reason = answer["error"].get("description", "")
        raise Failure(f"nats-server refused its new users: {reason}.", code="bus_unavailable")


async def _ask(host: str, port: int, user: str, password: str, subject: str) -> dict[str, Any]:
    """Send a request and return the first answer.

    Raises:
        OSError, TimeoutError, nats.errors.Error, ValueError: the server is not there, or its answer is not JSON.
    """
    client = await nats.connect(
        f"nats://{host}:{port}",
        user=user,
        password=password,
        connect_timeout=_TIMEOUT_S,
        allow_reconnect=False,
        error_cb=_ignore,
    )
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, b"", timeout=_TIMEOUT_S)).data)
        return answer
    finally:
        await client.close()


async def _ignore(_: Exception) -> None:
    """Ignore a connection error: the next check shows the state again."""
