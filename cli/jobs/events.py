"""``saccade events``: show past events and follow new ones."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar

import click

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.follow import StopsByCancellation, progress_text
from cli.output import format_time, print_json, print_line, reader_is_gone
from contracts.events.base import EVENT_CLASSES

_DURATION = re.compile(r"^(\d+)(s|m|h|d)?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_since(text: str) -> str:
    """Convert 15m, 2h or 7d to seconds, which the API takes; return a time or a cursor unchanged."""
    match = _DURATION.match(text)
    return str(int(match[1]) * _SECONDS[match[2] or "s"]) if match else text


class _Events(click.Group):
    """Group that imports the commands for files of events when one of them is called."""

    _MODULES: ClassVar = {"export": "export", "import": "import_window", "verify": "verify"}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(self._MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command."""
        if (module := self._MODULES.get(cmd_name)) is None:
            return None
        command: click.Command = getattr(importlib.import_module(f"cli.history.{module}"), module)
        return command


@click.group(cls=_Events, invoke_without_command=True)
@click.option("--job", "job_id", help="Only events of this job, from its first.")
@click.option("--since", help="Events since 90s, 15m, 2h or 7d ago, a time (RFC 3339), or a cursor.")
@click.option("--type", "types", multiple=True, help="Only events of this type, for example job.failed or job.*.")
@click.option("--follow", "-f", is_flag=True, help="Also show new events until Ctrl-C.")
@server_options
@click.pass_context
def events(
    context: click.Context,
    *,
    job_id: str | None,
    since: str | None,
    types: tuple[str, ...],
    follow: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """Show past events and follow new ones.

    Without options: the events of the last hour.
    """
    if context.invoked_subcommand is not None:
        return
    check_types(types)
    since = parse_since(since) if since else None
    if job_id is None and since is None and not follow:
        since = "3600"
    stopped = StopsByCancellation()
    with open_client(url) as client:
        for event in client.events(job_id, types=types, since=since, follow=follow):
            if as_json:
                print_json(event.envelope)
            else:
                cancelled = stopped.explains(event.type, event.envelope)
                print_line(event_line(event.type, event.envelope, event.data, cancelled=cancelled))
            if reader_is_gone():
                break


def check_types(types: Sequence[str]) -> None:
    """Reject types that no event has, which would show nothing and wait for ever.

    Raises:
        Failure: for the first unknown one; with those that are spelled alike.
    """
    known = sorted(EVENT_CLASSES)
    patterns = sorted({f"{name.partition('.')[0]}.*" for name in known})
    for name in types:
        if name in known or name in patterns:
            continue
        alike = difflib.get_close_matches(name, [*known, *patterns], n=3) or patterns
        raise Failure(
            f"There is no event type {name}.",
            code="unknown_type",
            hint=f"For example: {', '.join(alike)}; docs/events.md lists all.",
            exit_code=USAGE,
        )


def event_line(kind: str, envelope: dict[str, Any], data: dict[str, Any], *, cancelled: bool = False) -> str:
    """Format an event as one line; ``cancelled``: the interruption is the effect of a cancellation."""
    moment = format_time(str(envelope.get("time", "")))
    match kind:
        case "job.interrupted" if cancelled:
            text = "stopped, because the job is cancelled"
        case "job.progressed":
            text = f"{100 * float(data.get('fraction', 0)):.0f} % {progress_text(data)}"
        case "job.failed" | "job.interrupted" | "upload.failed":
            error = data.get("error") or {}
            text = f"{error.get('message', '')} ({error.get('code', '')})"
        case "job.artifact_ready":
            text = str((data.get("artifact") or {}).get("name", ""))
        case "job.stage_completed":
            text = f"{data.get('stage', '')} in {float(data.get('duration_s', 0)):.1f} s"
        case "job.succeeded":
            text = f"in {float(data.get('duration_s', 0)):.1f} s"
        case "upload.created":
            text = str(data.get("filename", ""))
        case "job.submitted":
            text = str(data.get("workload", ""))
        case _:
            text = ""
    return f"{moment:<23}  {kind:<22}  {envelope.get('subject', '')}  {text}".rstrip()
