"""Options of the commands that call a server, and the client made from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from saccade import Client, ClientError

from cli.failure import Failure
from cli.settings import CommandSettings

#: Codes about a field of any request; the hint below fits only where the field is a workload's parameter.
_PARAMETER_CODES: Final = frozenset({"unknown_parameter", "invalid_parameter"})
#: Codes whose next step is a command rather than a route of the API.
_HINTS: Final = {
    "server_unreachable": "Start it with: saccade up",
    "unauthenticated": "Set SACCADE_API_KEY to your key.",
    "unknown_workload": "`saccade workloads` lists the server's workloads.",
    "unknown_parameter": "`saccade workloads NAME` shows its parameters.",
    "invalid_parameter": "`saccade workloads NAME` shows its parameters.",
    "upload_not_found": "Name a file, or the id of one of your uploads.",
    "job_already_ended": "To run a failed or cancelled job again: saccade retry ID",
    "job_not_found": "`saccade jobs` lists your jobs.",
    "session_not_found": "`saccade sessions` lists your sessions.",
    "session_ended": "Open a new one with: saccade sessions open WORKLOAD",
    "artifact_not_found": "`saccade artifacts ID` lists the job's artifacts.",
    "webhook_not_found": "`saccade webhooks list` lists your endpoints.",
    "delivery_not_found": "`saccade webhooks deliveries ID` lists the deliveries; they are kept for 30 days.",
    "artifacts_not_ready": "Wait until the job ends: saccade events --job ID --follow",
}


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--url`` and ``--json``."""
    command = click.option("--json", "as_json", is_flag=True, help="Print one JSON value per line.")(command)
    help_text = f"Address of the server. [default: SACCADE_URL or {CommandSettings.model_fields['url'].default}]"
    return click.option("--url", help=help_text)(command)


@contextmanager
def open_client(url: str | None) -> Iterator[Client]:
    """Open a client of the server at ``url``, by default that of the settings.

    Raises:
        Failure: the server refused a request or does not answer.
    """
    settings = CommandSettings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    with as_failures(), Client(url or settings.url, key) as client:
        yield client


@contextmanager
def as_failures() -> Iterator[None]:
    """Turn the client's errors into failures of the command, with hints for the command line.

    Raises:
        Failure: for any ``ClientError``.
    """
    try:
        yield
    except ClientError as error:
        other_field = error.code in _PARAMETER_CODES and not error.message.startswith("params/")
        hint = error.hint if other_field else _HINTS.get(error.code, error.hint)
        raise Failure(error.message, code=error.code, hint=hint) from error
