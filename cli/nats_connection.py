"""Connection of a command to NATS: whatever goes wrong is one line with a hint."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import nats.errors
from nats.aio.client import Client

from cli.failure import Failure
from kit.bus.connection import connect
from kit.settings import NatsSettings

_CONNECT_S: Final = 5.0


@dataclass(frozen=True)
class ConnectionHints:
    """Hints of a command: when NATS does not answer, refuses the connection, or refuses what is asked."""

    silent: str
    refused: str
    forbidden: str


@contextlib.asynccontextmanager
async def connected(settings: NatsSettings, hints: ConnectionHints) -> AsyncIterator[Client]:
    """Connect to NATS.

    Raises:
        Failure: it does not answer, or refuses.
    """
    # The connection reports to a service's log; here each failure is one line of the command.
    logging.getLogger("kit").setLevel(logging.CRITICAL)
    refusals: list[str] = []
    try:
        async with asyncio.timeout(_CONNECT_S):
            client = await connect(settings, "saccade", refusals.append)
    except (TimeoutError, OSError, nats.errors.Error) as error:
        message = refusals[-1] if refusals else f"NATS does not answer at {settings.address}"
        hint = hints.refused if refusals else hints.silent
        raise Failure(f"{message}.", code="bus_unavailable", hint=hint) from error
    try:
        yield client
    except (TimeoutError, nats.errors.Error) as error:
        if not refusals:
            raise
        message = f"NATS refuses this to {settings.user or 'these credentials'}."
        raise Failure(message, code="forbidden", hint=hints.forbidden) from error
    finally:
        await client.close()
