"""Connection with a service's rights to the bus of a system: of a data folder, or of the environment."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from cli.embedded.servers import Servers, servers_of_environment, servers_of_folder
from cli.nats_connection import ConnectionHints, connected
from cli.output import print_note
from cli.settings import CommandSettings
from kit.settings import NatsSettings

_HINTS: Final = ConnectionHints(
    silent="Check NATS_URL.",
    refused="Check NATS_URL, and that its credentials are those of a service.",
    forbidden="Whole streams are read and written with the credentials of a service (docs/backup.md).",
)


@dataclass(frozen=True)
class Access:
    """A connection, and the servers it is one to."""

    client: Client
    servers: Servers


@contextlib.asynccontextmanager
async def open_access(data: Path | None) -> AsyncIterator[Access]:
    """Connect to the system of a data folder, or without one to that of ``NATS_URL``, else of the default folder.

    Raises:
        Failure: there is none, or it does not answer.
    """
    named = servers_of_environment() if data is None else None
    if named is not None:
        async with open_client(named.nats) as client:
            yield Access(client, named)
        return
    async with (
        servers_of_folder(data or CommandSettings().data, print_note) as servers,
        open_client(servers.nats) as client,
    ):
        yield Access(client, servers)


def open_client(settings: NatsSettings) -> AbstractAsyncContextManager[Client]:
    """Connect to NATS.

    Raises:
        Failure: it does not answer, or refuses.
    """
    return connected(settings, _HINTS)
