"""The options of every command that talks to a server, and the client they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from saccade import Client, ClientError

from cli.failure import Failure
from cli.settings import CommandSettings

#: Codes about a field of any request; they have a command to look at only where the field is a workload's.
_OF_WORKLOADS: Final = frozenset({"unknown_parameter", "invalid_parameter"})
#: Codes whose next step is a command rather than a route of the API.
_HINTS: Final = {
    "server_unreachable": "Start it with: saccade up",
    "unauthenticated": "Set SACCADE_API_KEY to your key.",
    "unknown_workload": "`saccade workloads` lists those there are.",
    "unknown_parameter": "`saccade workloads NAME` shows its parameters.",
    "invalid_parameter": "`saccade workloads NAME` shows its parameters.",
    "upload_not_found": "Name a file, or the id of an upload of yours.",
    "job_already_ended": "A failed or cancelled job starts again with: saccade retry ID",
    "job_not_found": "`saccade jobs` lists your jobs.",
    "session_not_found": "`saccade sessions` lists yours.",
    "session_ended": "Open a new one with: saccade sessions open WORKLOAD",
    "artifact_not_found": "`saccade artifacts ID` lists those there are.",
    "webhook_not_found": "`saccade webhooks list` lists yours.",
    "delivery_not_found": "`saccade webhooks deliveries ID` lists them; they are kept for 30 days.",
    "artifacts_not_ready": "Wait for the end of the job: saccade events --job ID --follow",
}


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url`` and ``--json``."""
    command = click.option("--json", "as_json", is_flag=True, help="One JSON value a line.")(command)
    help_text = f"The server. [default: SACCADE_URL or {CommandSettings.model_fields['url'].default}]"
    return click.option("--url", help=help_text)(command)


@contextmanager
def open_client(url: str | None) -> Iterator[Client]:
    """Open a client of the server that was asked for.

    Raises:
        Failure: what the server refused, or that it does not answer.
    """
    settings = CommandSettings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    with as_failures(), Client(url or settings.url, key) as client:
        yield client


@contextmanager
def as_failures() -> Iterator[None]:
    """Turn the client's errors into the command's.

    Raises:
        Failure: with the hint that fits the command line.
    """
    try:
        yield
    except ClientError as error:
        elsewhere = error.code in _OF_WORKLOADS and not error.message.startswith("params/")
        hint = error.hint if elsewhere else _HINTS.get(error.code, error.hint)
        raise Failure(error.message, code=error.code, hint=hint) from error
