"""Credentials of NATS for a program of the user's: made by each of the three kinds of system, written to a file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.failure import Failure
from cli.settings import CommandSettings
from contracts.consumers import JETSTREAM_API, USER_SERVICE_API

if TYPE_CHECKING:
    from nats.aio.client import Client

    from contracts.bus_grant import BusGrant
    from kit.settings import NatsSettings

_DAY_S: Final = 86_400
_CONNECT_S: Final = 10.0


@dataclass(frozen=True)
class SystemAccess:
    """Access to one kind of system: where consumers are declared, and how credentials are made."""

    settings: NatsSettings
    #: Beginning of JetStream's requests in the account that the credentials are of.
    api: str
    #: Make the credentials: the text of their file.
    make: Callable[[BusGrant], Awaitable[str]]
    #: What else the user has to know or do.
    note: str = ""


def bus_access(data: Path | None, users: Path | None, seed: Path | None, days: int) -> SystemAccess:
    """Return how this system's consumers and credentials are made.

    Raises:
        click.UsageError: the options name several systems.
        Failure: a file cannot be read, or no system runs on the data folder.
    """
    if sum(option is not None for option in (data, users, seed)) > 1:
        raise click.UsageError("--data, --users and --seed name three kinds of system: use one of them.")
    from kit.settings import NatsSettings  # noqa: PLC0415 - the other commands start without these

    if seed:
        return _signed(seed, NatsSettings(), days)
    if users:
        return _added(users, NatsSettings())
    return _embedded(data or CommandSettings().data)


def _signed(seed: Path, settings: NatsSettings, days: int) -> SystemAccess:
    from pydantic import SecretStr  # noqa: PLC0415

    from kit.auth.bus_token import BusTokenIssuer  # noqa: PLC0415

    try:
        issuer = BusTokenIssuer(SecretStr(seed.read_text()))
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise Failure(f"{seed}: {reason}.", code="seed_unreadable", hint="See docs/worker_access.md.") from error

    async def make(grant: BusGrant) -> str:
        return issuer.issue(grant, days * _DAY_S).credentials.get_secret_value()

    return SystemAccess(settings, USER_SERVICE_API, make, f"Valid for {days} days; run this again to renew them.")


def _added(users: Path, settings: NatsSettings) -> SystemAccess:
    from cli.nats_users import BASE, written  # noqa: PLC0415

    async def make(grant: BusGrant) -> str:
        if not users.exists():
            users.write_text(written(BASE, {}))
        return _add_user(users, grant)

    reload_hint = "NATS takes it over with: docker-compose kill -s HUP nats   (elsewhere: nats-server --signal reload)"
    return SystemAccess(settings, JETSTREAM_API, make, f"Its public key is in {users}. {reload_hint}")


def _embedded(data: Path) -> SystemAccess:
    from cli.embedded import programs  # noqa: PLC0415
    from cli.embedded.data_folder import read_running  # noqa: PLC0415
    from cli.embedded.ports import LOOPBACK  # noqa: PLC0415
    from kit.settings import NatsSettings  # noqa: PLC0415

    secrets, port = read_running(data)
    settings = NatsSettings.model_validate(
        {
            "url": f"nats://{LOOPBACK}:{port}",
            "user": secrets.nats_user,
            "password": secrets.nats_password,
        }
    )

    async def make(grant: BusGrant) -> str:
        text = _add_user(programs.users_file(data), grant)
        await programs.reload_nats(secrets, port)
        return text

    return SystemAccess(settings, JETSTREAM_API, make)


def _add_user(users: Path, grant: BusGrant) -> str:
    """Add a user to a file of NATS's users and return its credentials; the file has only its public key.

    The file is written in place: a mount in a container follows the inode.

    Raises:
        Failure: this is not such a file.
    """
    from cli.nats_users import with_service  # noqa: PLC0415
    from kit.auth.bus_token import inbox_prefix, new_user_key, seed_credentials  # noqa: PLC0415

    public_key, seed = new_user_key()
    try:
        users.write_text(with_service(users.read_text(), grant, public_key, inbox_prefix(grant.name)))
    except (OSError, ValueError) as error:
        raise Failure(
            f"{users} is not a file of NATS's users.",
            code="users_file_unreadable",
            hint="Name a new file, or a copy of deploy/nats_users.conf.",
        ) from error
    return seed_credentials(seed)


@asynccontextmanager
async def declaring(settings: NatsSettings) -> AsyncIterator[Client]:
    """Connect as who declares consumers.

    Raises:
        Failure: NATS does not answer, or refuses a consumer.
    """
    from nats.errors import Error as NatsError  # noqa: PLC0415

    from kit.bus.connection import connect  # noqa: PLC0415

    logging.getLogger("kit.bus").setLevel(logging.CRITICAL)  # the command says itself what went wrong
    try:
        async with asyncio.timeout(_CONNECT_S):
            client = await connect(settings, "saccade-key")
    except (TimeoutError, NatsError, OSError) as error:
        raise Failure(
            f"NATS at {settings.address} did not answer.",
            code="bus_unavailable",
            hint="Set NATS_URL, and NATS_USER and NATS_PASSWORD or NATS_CREDENTIALS_FILE, as the services have them.",
        ) from error
    try:
        yield client
    except (TimeoutError, NatsError) as error:
        raise Failure(
            f"NATS refused the consumers: {error or 'no answer'}.",
            code="bus_unavailable",
            hint="Is Saccade running? It creates the streams when it starts.",
        ) from error
    finally:
        await client.close()


def write_secret(file: Path, text: str) -> None:
    """Write a secret file that only its owner can read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
