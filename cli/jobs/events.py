"""``saccade events``: show past events and follow new ones."""

from __future__ import annotations

import re
from typing import Any

import click

from cli.connection import open_client, server_options
from cli.jobs.follow import progress_text
from cli.output import print_json, print_line

_DURATION = re.compile(r"^(\d+)(s|m|h|d)?$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_since(text: str) -> str:
    """Convert 15m, 2h or 7d to seconds, which the API takes; return a time or a cursor unchanged."""
    match = _DURATION.match(text)
    return str(int(match[1]) * _SECONDS[match[2] or "s"]) if match else text


@click.command()
@click.option("--job", "job_id", help="Only events of this job, from its first.")
@click.option("--since", help="Events since 90s, 15m, 2h or 7d ago, a time (RFC 3339), or a cursor.")
@click.option("--type", "types", multiple=True, help="Only events of this type, for example job.failed.")
@click.option("--follow", "-f", is_flag=True, help="Also show new events until Ctrl-C.")
@server_options
def events(
    *, job_id: str | None, since: str | None, types: tuple[str, ...], follow: bool, url: str | None, as_json: bool
) -> None:
    """Show past events and follow new ones.

    Without options: the events of the last hour.
    """
    since = parse_since(since) if since else None
    if job_id is None and since is None and not follow:
        since = "3600"
    with open_client(url) as client:
        for event in client.events(job_id, types=types, since=since, follow=follow):
            if as_json:
                print_json(event.envelope)
            else:
                print_line(event_line(event.type, event.envelope, event.data))


def event_line(kind: str, envelope: dict[str, Any], data: dict[str, Any]) -> str:
    """Format an event as one line."""
    moment = str(envelope.get("time", ""))[11:19]
    match kind:
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
    return f"{moment:<8}  {kind:<22}  {envelope.get('subject', '')}  {text}".rstrip()
