"""Connection of operators' commands to NATS, and requests with typed answers."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import socket
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, SecretStr

from cli.embedded.ports import LOOPBACK
from cli.embedded.programs import OPERATOR
from cli.failure import Failure
from cli.nats_connection import ConnectionHints, connected
from cli.settings import CommandSettings
from contracts.commands import COMMAND_S, OPERATOR_INBOX, Command, CommandError, read_answer
from contracts.ids import new_id
from kit.settings import NatsSettings

Answer = TypeVar("Answer", bound=BaseModel)

_STATUS_S: Final = 3.0
_TRIES: Final = 4
_TRY_AGAIN_S: Final = 0.25


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data`` and ``--json``."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")(command)
    return click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="Folder of the embedded system. [default: SACCADE_DATA or ./.saccade; with NATS_URL, none]",
    )(command)


def by_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--by``."""
    return click.option("--by", default="", help="Who you are, for the audit log. [default: user@machine]")(command)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command needs that changes something: ``--why``, and ``--by``; ``--data`` and ``--json``."""
    why = click.option("--why", required=True, help="The reason, for the audit log.")
    return why(data_option(by_option(command)))


def _sender() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"[:200]


def change(why: str, by: str) -> dict[str, str]:
    """Return the fields that every request has that changes something.

    Raises:
        Failure: the reason is empty or too long.
    """
    if not 1 <= len(why.strip()) <= 500:
        raise Failure("--why needs 1 to 500 characters.", code="usage", hint='For example: --why "new GPU quota"')
    return {"why": why.strip(), "by": by or _sender(), "request_id": new_id("req")}


def run(data: Path | None, act: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    """Connect to NATS and run a coroutine with the connection.

    Raises:
        Failure: NATS does not answer, or refuses.
        SaccadeError: what the service answered.
    """
    return asyncio.run(_run(data, act))


async def _run(data: Path | None, act: Callable[[Client], Coroutine[Any, Any, Answer]]) -> Answer:
    async with _open(data) as client:
        return await act(client)


def _open(data: Path | None) -> AbstractAsyncContextManager[Client]:
    hints = ConnectionHints(
        silent="Start Saccade with: saccade up" if data or not _configured() else "Check NATS_URL.",
        refused="Check NATS_CREDENTIALS_FILE, or NATS_USER and NATS_PASSWORD: those of an operator.",
        forbidden="Use credentials of an operator: docs/operations.md says where they are.",
    )
    return connected(_settings(data), hints)


def _configured() -> bool:
    return bool(NatsSettings().model_fields_set)


def _settings(data: Path | None) -> NatsSettings:
    """Return the settings of NATS: from the environment where it names some, else of an embedded system.

    Raises:
        Failure: there is neither.
    """
    if data is None and _configured():
        configured = NatsSettings()
        return configured.model_copy(update={"inbox_prefix": configured.inbox_prefix or OPERATOR_INBOX})
    folder = data or CommandSettings().data
    try:
        port = json.loads((folder / "ports.json").read_text())["nats-server"]
        password = json.loads((folder / "secrets.json").read_text())["operator_password"]
    except (OSError, ValueError, KeyError, TypeError):
        raise Failure(
            f"There is no system in {folder}.",
            code="nothing_to_operate",
            hint="Name its folder with --data, or NATS by NATS_URL and NATS_CREDENTIALS_FILE (docs/operations.md).",
        ) from None
    url = f"nats://{LOOPBACK}:{int(port)}"
    return NatsSettings(url=url, user=OPERATOR, password=SecretStr(password), inbox_prefix=OPERATOR_INBOX)


async def _request(client: Client, subject: str, body: bytes, timeout_s: float) -> Msg:
    """Send a request; again if nobody is there, which nothing was delivered to: a service may just be starting.

    Also, nats-server 2.15 says so of a subscription in another account that is a moment old (1 of 25).
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(nats.errors.NoRespondersError):
            return await client.request(subject, body, timeout=timeout_s)
        await asyncio.sleep(_TRY_AGAIN_S)
    return await client.request(subject, body, timeout=timeout_s)


async def ask(client: Client, command: Command, answer: type[Answer], **fields: Any) -> Answer:
    """Send a command and return its answer.

    Raises:
        Failure: no service answers, or not as agreed.
        SaccadeError: the service refused the command or failed.
    """
    request = command.request.model_validate(fields)
    changes = "request_id" in type(request).model_fields and not fields.get("dry_run")
    timeout_s = COMMAND_S if changes else _STATUS_S
    try:
        reply = await _request(client, command.subject, request.model_dump_json().encode(), timeout_s)
        read = read_answer(command, reply.data)
    except nats.errors.NoRespondersError as error:
        raise Failure(
            f"No {command.service} runs.",
            code="service_unavailable",
            hint="Start it, and send the command again: nothing was done.",
        ) from error
    except (TimeoutError, nats.errors.TimeoutError) as error:
        if not client.is_connected or client.last_error is not None:
            raise
        done = f"`saccade audit --request {fields.get('request_id')}` shows whether it was begun." if changes else ""
        raise Failure(
            f"No {command.service} answered within {timeout_s:.0f} s: none leads at this moment.",
            code="service_unavailable",
            hint=done or "Try again in a few seconds.",
        ) from error
    except ValueError as error:
        raise Failure(
            f"The {command.service} gave an answer that this version cannot read.",
            code="answer_unknown",
            hint="Use the saccade of the same version as the services.",
        ) from error
    if isinstance(read, CommandError):
        raise read.as_error()
    assert isinstance(read, answer)
    return read
