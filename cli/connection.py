"""Options of the commands that call a server, and the client made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from saccade_client import Client, ClientError

from cli.command_hints import command_hint, field_hint, unreachable_hint
from cli.failure import Failure
from cli.settings import CommandSettings

#: Codes about a field of any request: a workload's parameter, or an option of the command.
_PARAMETER_CODES: Final = frozenset({"unknown_parameter", "invalid_parameter"})
_URL_HELP: Final = f"Address of the server. [default: SACCADE_URL or {CommandSettings.model_fields['url'].default}]"


def _own_or_inherited(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return a command's own ``--url``, else the one that stands before the command."""
    inherited: str | None = context.find_root().params.get("url")
    return value or inherited


def url_option(command: Callable[..., Any], help_text: str = _URL_HELP) -> Callable[..., Any]:
    """Add ``--url``, which may also stand before the command's name."""
    return click.option("--url", callback=_own_or_inherited, help=help_text)(command)


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url`` and ``--json``."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")(command)
    return url_option(command)


@contextmanager
def open_client(url: str | None) -> Iterator[Client]:
    """Open a client of the server at ``url``, by default that of the settings.

    Raises:
        Failure: the server refused a request or does not answer.
    """
    settings = CommandSettings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    address = url or settings.url
    with as_failures(address), Client(address, key) as client:
        yield client


@contextmanager
def as_failures(url: str) -> Iterator[None]:
    """Turn the errors of a client of the server at ``url`` into failures, with hints for the command line.

    Raises:
        Failure: for any ``ClientError``.
    """
    try:
        yield
    except ClientError as error:
        raise Failure(error.message, code=error.code, hint=_hint_of(error, url)) from error


def _hint_of(error: ClientError, url: str) -> str:
    if error.code == "server_unreachable":
        return unreachable_hint(url)
    if error.code == "host_not_found":
        return "Check the address in --url or SACCADE_URL, and the connection of this machine."
    if error.code in _PARAMETER_CODES and not error.message.startswith("params/"):
        return field_hint(error.hint)
    context = click.get_current_context(silent=True)
    return command_hint(error.code, error.hint, context.params if context else None)
