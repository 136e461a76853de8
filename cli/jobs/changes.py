"""``saccade job diff``: what changed of a job between two points of the history; sessions use the same lines."""

from __future__ import annotations

import json
from typing import Any, Final

import click
from saccade_client import ChangesView

from cli.connection import open_client, server_options
from cli.jobs.events import event_line, parse_since
from cli.jobs.latest import find_job
from cli.output import format_time, print_json, print_line, shortened

#: Characters of a value that a line shows.
_SHOWN: Final = 60
#: Words of a point of the history, for the help of options and arguments.
POINT_HELP: Final = "a cursor, a time (RFC 3339), or 90s, 15m, 2h or 7d ago"


@click.command("diff")
@click.argument("job_id", metavar="ID")
@click.argument("since", metavar="A")
@click.argument("until", metavar="[B]", required=False)
@server_options
def diff(*, job_id: str, since: str, until: str | None, url: str | None, as_json: bool) -> None:
    """Compare a job at two points.

    A and B are cursors, times (RFC 3339), or 90s, 15m, 2h or 7d ago; B is now by default. Shows the fields that
    changed, the events in between and what was spent in between. ID may be `latest`.
    """
    with open_client(url) as client:
        if job_id == "latest":
            job_id = find_job(client, job_id).id
        found = client.job_changes(job_id, parse_since(since), parse_since(until) if until else None)
    print_changes(found, as_json=as_json)


def print_changes(found: ChangesView, *, as_json: bool) -> None:
    """Print changes: fields, then events, then the cost."""
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_line(f"{found.id} from {_point(found.since)} to {_point(found.until)}")
    if not found.existed:
        print_line("It did not exist at the first point.")
    for field in found.changed:
        print_line(f"  {field.pointer.removeprefix('/')}: {_value(field.before)} -> {_value(field.after)}")
    if not found.changed:
        print_line("  Nothing changed.")
    for between in found.events:
        envelope: dict[str, Any] = between.event
        print_line("  " + event_line(str(envelope.get("type", "")), envelope, envelope.get("data") or {}))
    if found.events_left_out:
        print_line(f"  and {found.events_left_out} later events: saccade events shows them")
    if found.cost_usd:
        print_line(f"  ${found.cost_usd:.4f} were spent in between.")


def _point(point: Any) -> str:
    return f"{point.cursor} ({format_time(point.time)})" if point.time else str(point.cursor)


def _value(value: Any) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(text, _SHOWN)
