"""Credentials of NATS for a program of the user's: made by each of the three kinds of system, written to a file."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

import click

from cli.failure import Failure
from cli.output import print_json, print_line, print_note
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
    #: Take the access of a user away, by its name.
    revoke: Callable[[str], Coroutine[None, None, None]]
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

    async def revoke(name: str) -> None:
        raise Failure(
            f"Credentials of {name} that are signed cannot be revoked one by one.",
            code="revocation_unsupported",
            hint=f"They end when they expire, or all at once with a new {seed.name}: docs/worker_access.md.",
        )

    return SystemAccess(
        settings, USER_SERVICE_API, make, revoke, f"Valid for {days} days; run this again to renew them."
    )


def _added(users: Path, settings: NatsSettings) -> SystemAccess:
    async def make(grant: BusGrant) -> str:
        return _add_user(users, grant, create=True)

    async def revoke(name: str) -> None:
        _remove_user(users, name)

    reload_hint = "NATS takes it over with: docker-compose kill -s HUP nats   (elsewhere: nats-server --signal reload)"
    return SystemAccess(settings, JETSTREAM_API, make, revoke, f"The users are in {users}. {reload_hint}")


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

    async def revoke(name: str) -> None:
        _remove_user(programs.users_file(data), name)
        await programs.reload_nats(secrets, port)

    return SystemAccess(settings, JETSTREAM_API, make, revoke)


def _add_user(users: Path, grant: BusGrant, *, create: bool = False) -> str:
    """Add a user to a file of NATS's users and return its credentials; the file has only its public key.

    ``create``: a missing file is created, with the users of deploy/nats_users.conf.

    Raises:
        Failure: this is not such a file.
    """
    from cli.nats_users import BASE, with_service, written  # noqa: PLC0415
    from kit.auth.bus_token import inbox_prefix, new_user_key, seed_credentials  # noqa: PLC0415

    public_key, seed = new_user_key()

    def add(text: str) -> str:
        if create and not text:
            text = written(BASE, {})
        return with_service(text, grant, public_key, inbox_prefix(grant.name))

    _change(users, add, create=create)
    return seed_credentials(seed)


def _remove_user(users: Path, name: str) -> None:
    """Remove a user from a file of NATS's users.

    Raises:
        Failure: this is not such a file, or it has no such user.
    """
    from cli.nats_users import services_of, without_service  # noqa: PLC0415

    def remove(text: str) -> str:
        try:
            return without_service(text, name)
        except KeyError:
            raise Failure(
                f"{users} has no user {name}.",
                code="service_not_found",
                hint=f"It has: {', '.join(services_of(text)) or 'none'}.",
            ) from None

    _change(users, remove)


def _change(users: Path, change: Callable[[str], str], *, create: bool = False) -> None:
    """Change a file of NATS's users.

    Raises:
        Failure: this is not such a file; or as ``change``.
    """
    from cli.nats_users import change_users  # noqa: PLC0415

    try:
        change_users(users, change, create=create)
    except (OSError, ValueError) as error:
        raise Failure(
            f"{users} is not a file of NATS's users.",
            code="users_file_unreadable",
            hint="Name a new file, or a copy of deploy/nats_users.conf.",
        ) from error


def revoke_access(access: SystemAccess, user: str, noun: str, name: str, text: str, *, as_json: bool) -> None:
    """Take the access of a user away and say so: ``text``, or as JSON the name of what it was for under its noun.

    Raises:
        Failure: the system has no such user, or its credentials are signed.
    """
    asyncio.run(access.revoke(user))
    if as_json:
        print_json({noun: name, "revoked": True})
        return
    print_line(text)
    if access.note:
        print_note(access.note)


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


@contextmanager
def new_secret(file: Path) -> Iterator[TextIO]:
    """Create a secret file that only its owner can read, before what it is to hold is made; no failure leaves it.

    Raises:
        Failure: it exists, or cannot be created.
    """
    try:
        output = os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w")
    except FileExistsError:
        raise Failure(
            f"{file} exists.", code="file_exists", hint="Move it away, or use --out with another file."
        ) from None
    except OSError as error:
        raise Failure(
            f"{file} cannot be created: {error.strerror}.",
            code="file_not_writable",
            hint="Use --out with another file.",
        ) from error
    try:
        with output:
            yield output
    except BaseException:
        file.unlink(missing_ok=True)
        raise
