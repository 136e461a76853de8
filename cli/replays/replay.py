"""``saccade replay``: send events of the past again, to one target, at a pace."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import Any, Final

import click
from saccade_client import ReplayView

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.jobs.events import check_types, parse_since
from cli.output import print_json, print_line
from cli.replays.follow import follow as follow_replay
from cli.replays.replay_text import show_list, show_plan, show_replay
from contracts.replay import INTO_PATTERN

_FILE_SUFFIX: Final = ".zst"
_RATE: Final = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(?:/s)?$")
_GAP: Final = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(ms|s|m)?$")
_GAP_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}
_STATES: Final = ("planned", "running", "paused", "completed", "cancelled", "failed", "expired")


@click.group(invoke_without_command=True)
@click.option("--since", help="Events since 90s, 15m, 2h or 7d ago, a time (RFC 3339), or after a cursor.")
@click.option("--until", help="As --since; by default now.")
@click.option("--type", "types", multiple=True, help="Only events of this type, for example job.failed or job.*.")
@click.option("--subject", "subjects", multiple=True, help="Only events of this id.")
@click.option("--job", "jobs", multiple=True, help="Only events of this job.")
@click.option("--session", "sessions", multiple=True, help="Only events of this session.")
@click.option("--tenant", "tenants", multiple=True, help="For operators: whose events; * for all.")
@click.option("--into", help="sse (standard output), webhook:whk_…, sandbox:NAME, or a file FILE.ndjson.zst.")
@click.option("--speed", type=click.Choice(["1x", "4x", "max"]), default="1x", show_default=True, help="Pace.")
@click.option("--max-gap", help="Longest wait between two events, such as 2s.")
@click.option("--rate", help="Most events per second, such as 50/s.")
@click.option("--as-new", is_flag=True, help="Into a webhook: with new ids, so that receivers work again.")
@click.option("--why", default="", help="Reason, for the audit log.")
@click.option("--dry-run", is_flag=True, help="Count and show what would be sent; send nothing.")
@click.option("--expect", type=click.IntRange(0), help="Start without a question, if it has so many events.")
@server_options
@click.pass_context
def replay(context: click.Context, /, *, url: str | None, as_json: bool, **wanted: Any) -> None:
    """Send events of the past again.

    Counts them first, and asks before it sends anything to a webhook or a sandbox. Ctrl-C leaves the replay at the
    server as it is.
    """
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"url": url, "as_json": as_json}}
        return
    for name in ("since", "into"):
        if not wanted[name]:
            raise click.UsageError(f"--{name} is needed. To list replays: saccade replay ls")
    if not wanted["why"]:
        raise click.UsageError("--why is needed: the reason, for the audit log.")
    check_types(wanted["types"])
    into, file = _target(wanted["into"])
    with open_client(url) as client:
        made = client.replays.plan(into, **_request(wanted))
        if as_json and (wanted["dry_run"] or into != "sse"):
            print_json(made.model_dump(mode="json"))
        if not as_json:
            show_plan(made)
        if wanted["dry_run"]:
            return
        expected = _confirmed(made, wanted["expect"])
        started = client.replays.start(made.id, expected, why=wanted["why"])
        ended = follow_replay(client, started, file)
        if as_json and into != "sse":
            print_json(ended.model_dump(mode="json"))


def _target(text: str) -> tuple[str, Path | None]:
    if text != "file" and re.fullmatch(INTO_PATTERN, text):
        return text, None
    path = Path(text)
    if path.suffix != _FILE_SUFFIX:
        hint = "sse, webhook:whk_…, sandbox:NAME, or a file that ends with .ndjson.zst"
        raise Failure(f"--into {text}: no such target.", code="usage", hint=hint, exit_code=USAGE)
    if path.exists():
        hint = "Choose another name; saccade replay follow ID --into FILE goes on with an unfinished one."
        raise Failure(f"{text} exists.", code="file_exists", hint=hint, exit_code=USAGE)
    return "file", path


def _request(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "since": parse_since(wanted["since"]),
        "until": parse_since(wanted["until"]) if wanted["until"] else None,
        "types": wanted["types"],
        "subjects": [*wanted["subjects"], *wanted["jobs"], *wanted["sessions"]],
        "tenants": wanted["tenants"],
        "speed": wanted["speed"],
        "max_gap_s": _number("--max-gap", wanted["max_gap"], _GAP),
        "rate_per_s": _number("--rate", wanted["rate"], _RATE),
        "as_new": wanted["as_new"],
        "why": wanted["why"],
    }


def _number(option: str, text: str | None, pattern: re.Pattern[str]) -> float | None:
    if text is None:
        return None
    found = pattern.fullmatch(text)
    if found is None:
        example = "2s" if pattern is _GAP else "50/s"
        raise Failure(f"{option} {text}: write it like {example}.", code="usage", exit_code=USAGE)
    unit = _GAP_SECONDS[found[2] or "s"] if pattern is _GAP else 1.0
    return float(found[1]) * unit


def _confirmed(made: ReplayView, expected: int | None) -> int:
    """Return the count to start with: the expected one, or what the user confirms.

    Raises:
        Failure: nobody can be asked, or the answer is no.
    """
    if expected is not None or made.into in ("sse", "file"):
        return made.count if expected is None else expected
    if not sys.stdin.isatty():
        hint = f"saccade replay start {made.id} --expect {made.count}"
        raise Failure(
            "Nothing was sent: say with --expect how many events you expect.", code="usage", hint=hint, exit_code=USAGE
        )
    if not click.confirm(f"Send {made.count} events into {made.into}?", err=True):
        raise Failure("Nothing was sent.", code="declined", hint=f"The plan ends in an hour: {made.id}")
    return made.count


@replay.command("ls")
@click.option("--state", type=click.Choice(_STATES), help="Only replays in this state.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@server_options
def list_replays(*, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List replays, newest first."""
    with open_client(url) as client:
        found = list(itertools.islice(client.replays.all(state=state), limit))
    if as_json:
        for each in found:
            print_json(each.model_dump(mode="json"))
    elif found:
        show_list(found)
    else:
        print_line("No replays.")


@replay.command()
@click.argument("replay_id", metavar="ID")
@server_options
def show(replay_id: str, *, url: str | None, as_json: bool) -> None:
    """Show a replay, its plan and its progress."""
    with open_client(url) as client:
        found = client.replays.get(replay_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show_replay(found)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--expect", type=click.IntRange(0), required=True, help="The count of the plan.")
@click.option("--why", default="", help="Reason, for the audit log.")
@server_options
def start(replay_id: str, *, expect: int, why: str, url: str | None, as_json: bool) -> None:
    """Start a planned replay."""
    with open_client(url) as client:
        _changed(client.replays.start(replay_id, expect, why=why), as_json=as_json)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--into", "file", type=click.Path(dir_okay=False, path_type=Path), help="File of a replay into one.")
@click.option("--after", help="Of a replay into sse: the id of the last event that you have.")
@server_options
def follow(replay_id: str, *, file: Path | None, after: str | None, url: str | None, as_json: bool) -> None:
    """Follow a replay to its end; an unfinished file goes on."""
    with open_client(url) as client:
        found = follow_replay(client, client.replays.get(replay_id), file, after=after)
    if as_json and found.into != "sse":
        print_json(found.model_dump(mode="json"))


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--why", default="", help="Reason, for the audit log.")
@server_options
def pause(replay_id: str, *, why: str, url: str | None, as_json: bool) -> None:
    """Pause a replay."""
    with open_client(url) as client:
        _changed(client.replays.pause(replay_id, why=why), as_json=as_json)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--why", default="", help="Reason, for the audit log.")
@server_options
def resume(replay_id: str, *, why: str, url: str | None, as_json: bool) -> None:
    """Resume a paused replay."""
    with open_client(url) as client:
        _changed(client.replays.resume(replay_id, why=why), as_json=as_json)


@replay.command()
@click.argument("replay_id", metavar="ID")
@click.option("--why", default="", help="Reason, for the audit log.")
@server_options
def cancel(replay_id: str, *, why: str, url: str | None, as_json: bool) -> None:
    """End a replay before its last event."""
    with open_client(url) as client:
        _changed(client.replays.cancel(replay_id, why=why), as_json=as_json)


def _changed(found: ReplayView, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"{found.id} is {found.state}.")
