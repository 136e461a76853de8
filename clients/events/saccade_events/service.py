"""A whole service of reactions: connects, runs until it is told to stop, and closes the connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client

from contracts.consumers import JETSTREAM_API
from saccade_events.bus import Bus
from saccade_events.credentials import Credentials, read_credentials
from saccade_events.observer import Observer
from saccade_events.reactions import Reactions

log = logging.getLogger(__name__)


async def connect(
    url: str, name: str, credentials: Credentials | None = None, inbox_prefix: str | None = None
) -> Client:
    """Connect to NATS and stay connected: the client waits for the server at the start and after every disconnect.

    ``url`` may name the nodes of a cluster, separated by commas: the client uses one that answers. The user of
    ``credentials`` may receive replies only below ``inbox_prefix``.
    """
    options: dict[str, Any] = dict(credentials.options) if credentials else {}
    if inbox_prefix:
        options["inbox_prefix"] = inbox_prefix.encode()
    if url.startswith(("tls://", "wss://")):
        options["tls"] = ssl.create_default_context()

    async def on_error(error: Exception) -> None:
        log.warning("nats: %s", error or type(error).__name__)

    # With a limit of attempts, FastStream's event loop stands still when it is reached.
    options |= {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "ping_interval": 10}
    urls = [address.strip() for address in url.split(",") if address.strip()]
    return await nats.connect(urls, name=name, error_cb=on_error, **options)


async def serve(
    *reactions: Reactions,
    url: str,
    credentials: str | Path | None = None,
    inbox_prefix: str | None = None,
    declare: bool = True,
    context: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
) -> None:
    """Run reactions until SIGTERM or SIGINT.

    ``credentials`` is a file of ``saccade key service``, which allows replies below ``_INBOX_<service>`` alone: that is
    the default of ``inbox_prefix``. It cannot create consumers: use ``declare=False`` with it. ``context`` is what
    handlers take with ``Annotated[…, Context()]``, by the name of the parameter.

    Raises:
        StreamReplaced: a stream was created anew; start again.
        OSError, ValueError: the credentials cannot be read.
        ConsumerMissing: with ``declare=False``, when a consumer does not exist.
    """
    name = reactions[0].service if reactions else "saccade-events"
    user = read_credentials(credentials) if credentials else None
    client = await connect(url, name, user, inbox_prefix or f"_INBOX_{name}")
    api_prefix = user.api_prefix if user else JETSTREAM_API
    bus = Bus(client, *reactions, observers=observers, declare=declare, api_prefix=api_prefix)
    for key, value in (context or {}).items():
        bus.context.set_global(key, value)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running, stopping = asyncio.ensure_future(bus.run()), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        running.cancel()
        await asyncio.wait([running, stopping])
        with contextlib.suppress(OSError):  # nats-py raises it when the server is away
            await client.close()
    if not running.cancelled():
        running.result()


def run(
    *reactions: Reactions,
    url: str,
    credentials: str | Path | None = None,
    inbox_prefix: str | None = None,
    declare: bool = True,
    context: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
) -> None:
    """Run reactions until SIGTERM or SIGINT, in an event loop of their own; arguments as of ``serve``."""
    asyncio.run(
        serve(
            *reactions,
            url=url,
            credentials=credentials,
            inbox_prefix=inbox_prefix,
            declare=declare,
            context=context,
            observers=observers,
        )
    )
