"""``saccade sessions``: live sessions listed, opened, ended, replayed and exported."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from saccade import SessionView

from cli.connection import open_client, server_options
from cli.failure import INTERRUPTED
from cli.jobs.submission import parse_params, read_params
from cli.output import print_json, print_line, print_note, print_table
from cli.progress_bar import format_size, progress_bar
from cli.sessions.replay import ComparedValue, compare, follow_replay, open_replay, require_identical, warn_of_failure

_STATES: Final = ("opening", "ready", "running", "stopping", "stopped", "failed")
_STOP_S: Final = 60


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Choice(_STATES), help="Only sessions in this state.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@server_options
@click.pass_context
def sessions(context: click.Context, *, state: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List your live sessions, newest first; or do something with one."""
    if context.invoked_subcommand is not None:
        for name in ("state", "limit"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} is for the list, not for {context.invoked_subcommand}.")
        # What stands before the subcommand holds for it, unless it says otherwise itself.
        context.default_map = {context.invoked_subcommand: {"url": url, "as_json": as_json}}
        return
    with open_client(url) as client:
        found = client.sessions.all(state=state, page_size=min(limit, 200))
        listed = list(itertools.islice(found, limit))
    if as_json:
        for one in listed:
            print_json(one.model_dump(mode="json"))
    elif listed:
        head = ("SESSION", "WORKLOAD", "STATE", "ACCEPTED", "DROPPED", "REJECTED", "SPLATS", "PSNR", "COST")
        print_table(head, [_row(one) for one in listed])
    else:
        print_line("No sessions.")


@sessions.command()
@click.argument("session_id", metavar="ID")
@server_options
def show(session_id: str, url: str | None, as_json: bool) -> None:
    """Show one session."""
    with open_client(url) as client:
        found = client.sessions.get(session_id)
        server = client.url
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _describe(found, server)


@sessions.command("open")
@click.argument("workload")
@click.option("--params", "given", default="{}", metavar="JSON|@FILE", help="Parameters: those of calibrate, say.")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the workload.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="Stop the session before it costs more.")
@click.option("--idle-timeout", "idle_timeout_s", type=click.FloatRange(min=1), help="End after so many idle seconds.")
@click.option("--max-length", "max_length_s", type=click.FloatRange(min=1), help="End after so many seconds.")
@click.option("--idempotency-key", help="The same key and request again give the same session.")
@server_options
def open_session(
    *,
    workload: str,
    given: str,
    pairs: tuple[str, ...],
    max_cost_usd: float | None,
    idle_timeout_s: float | None,
    max_length_s: float | None,
    idempotency_key: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Open a session of WORKLOAD; frames may be sent at once. --json shows the ways in and their credentials."""
    params = read_params(given) | parse_params(pairs)
    with open_client(url) as client:
        made = client.sessions.open(
            workload,
            params,
            max_cost_usd=max_cost_usd,
            idle_timeout_s=idle_timeout_s,
            max_length_s=max_length_s,
            idempotency_key=idempotency_key,
        )
        server = client.url
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    print_line(f"Session {made.id} is {made.state}.")
    print_note(f"  watch it at {server}{made.links['page']}")
    print_note(f"  end it with: saccade sessions stop {made.id}")


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--wait", "waited", is_flag=True, help="Wait until its worker has left the whole model.")
@server_options
def stop(session_id: str, waited: bool, url: str | None, as_json: bool) -> None:
    """End a session; its worker leaves the whole model."""
    with open_client(url) as client:
        found = client.sessions.stop(session_id, wait_s=_STOP_S if waited else None)
        while waited and not found.ended:
            found = client.sessions.get(session_id, wait_s=_STOP_S)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.ended:
        print_line(f"Session {found.id} is {found.state}. {_frames(found)}.")
    else:
        print_line(f"Session {found.id} is asked to stop.")


@sessions.command()
@click.argument("session_id", metavar="ID")
@server_options
def reset(session_id: str, url: str | None, as_json: bool) -> None:
    """Have a session forget what it has seen; chunks that were exported stay."""
    with open_client(url) as client:
        found = client.sessions.reset(session_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"Session {found.id} is asked to begin anew.")


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="Another value than the session had.")
@click.option("--follow", "-f", is_flag=True, help="Wait for its end, and compare what both left.")
@server_options
def replay(*, session_id: str, pairs: tuple[str, ...], follow: bool, url: str | None, as_json: bool) -> None:
    """Give a new session what session ID was given, with the same timing; --follow says if it made the same of it."""
    params = parse_params(pairs)
    with open_client(url) as client:
        original, opened = open_replay(client, session_id, params)
        if not follow:
            if as_json:
                print_json(opened.model_dump(mode="json"))
            else:
                print_line(f"Session {opened.id} replays {original.id}.")
                print_note(f"  show it with: saccade sessions show {opened.id}")
            return
        if not as_json:
            print_line(f"Session {opened.id} replays {original.id}.")
            warn_of_failure(original)
        try:
            with progress_bar("Replaying", silent=as_json) as update:
                ended = follow_replay(client, original, opened, update)
        except KeyboardInterrupt:
            print_note(f"\nThe replay goes on. Stop it with: saccade sessions stop {opened.id}")
            raise SystemExit(INTERRUPTED) from None
        compared = compare(client, original, ended)
    _tell_compared(original, ended, compared, as_json=as_json)
    if not params:  # with other values it may well make something else of it
        require_identical(compared)


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@server_options
def export(session_id: str, file: Path, url: str | None, as_json: bool) -> None:
    """Write what was streamed into a session, and each frame's verdict, to an MCAP FILE; it opens in Foxglove."""
    from cli.sessions.mcap_export import export_session  # noqa: PLC0415 - nothing else needs what writes MCAP

    with open_client(url) as client, progress_bar("Exporting", silent=as_json) as update:
        done = export_session(client, session_id, file, update)
    if as_json:
        print_json({"path": str(file.absolute()), "bytes": file.stat().st_size, **asdict(done)})
        return
    if done.frames_missing:
        print_note(f"  note: the first {done.frames_missing} frames are not kept any more.")
    if done.unreadable:
        print_note(f"  note: {done.unreadable} messages were neither frames nor joints.")
    parts = (f"{done.frames} frames", f"{done.joint_samples} joint samples", f"{done.verdicts} verdicts")
    print_line(f"{file}  {format_size(file.stat().st_size)}: {', '.join(parts)}")


def _row(one: SessionView) -> tuple[str, ...]:
    counts = (one.frames.accepted, one.frames.dropped, one.frames.rejected)
    return (one.id, one.workload, one.state, *map(str, counts), _splats(one), _psnr(one), f"${one.cost.actual_usd:.4f}")


def _splats(one: SessionView) -> str:
    count = one.figures.get("splats")
    return str(count) if isinstance(count, int) else "-"


def _psnr(one: SessionView) -> str:
    psnr_db = one.figures.get("psnr_db")
    return f"{psnr_db:.1f} dB" if isinstance(psnr_db, (int, float)) else "-"


def _frames(one: SessionView) -> str:
    frames = one.frames
    parts = [f"{getattr(frames, name)} {name}" for name in ("accepted", "dropped", "rejected")]
    waiting = [f"{frames.waiting} waiting"] if frames.waiting else []
    return f"{frames.sent} frames sent = {' + '.join([*parts, *waiting])}"


def _describe(one: SessionView, server: str) -> None:
    limit = f" of at most ${one.cost.max_usd:.4f}" if one.cost.max_usd is not None else ""
    lines: dict[str, Any] = {
        "session": one.id,
        "workload": one.workload,
        "state": one.state + (f" ({one.reason})" if one.reason else ""),
        "frames": _frames(one),
        "splats": _splats(one).strip("-"),
        "psnr": _psnr(one).strip("-"),
        "opened": _moment(one.created_at),
        "started": _moment(one.started_at),
        "finished": _moment(one.finished_at),
        "params": ", ".join(f"{name}={_brief(value)}" for name, value in one.params.items()),
        "replay of": one.replay_of,
        "cost": f"${one.cost.actual_usd:.4f}{limit}",
        "job": (one.job or {}).get("id"),
        "page": f"{server}{one.links['page']}" if "page" in one.links else "",
        "error": f"{one.error.message} ({one.error.code})" if one.error else "",
        "hint": one.error.hint if one.error else "",
    }
    for name, text in lines.items():
        if text:
            print_line(f"{name:<9} {text}")


def _tell_compared(original: SessionView, ended: SessionView, compared: list[ComparedValue], *, as_json: bool) -> None:
    same = all(one.same for one in compared)
    if as_json:
        parts = [asdict(one) | {"same": one.same} for one in compared]
        print_json({"session": ended.id, "replay_of": original.id, "same": same, "compared": parts})
        return
    rows = [(one.name, _short(one.original), _short(one.replay), "same" if one.same else "differs") for one in compared]
    print_table(("WHAT", "ORIGINAL", "REPLAY", ""), rows)
    if same:
        print_line(
            f"The replay made the same of it, to the last bit of {sum('.' in one.name for one in compared)} files."
        )


def _short(value: Any) -> str:
    """Write a value; of a sum as much as tells it from others."""
    return "-" if value is None else str(value)[:16]


def _brief(value: Any) -> str:
    """Write a parameter; --json has those that are tables."""
    return "…" if isinstance(value, (dict, list)) else str(value)


def _moment(text: str | None) -> str:
    return "" if text is None else text[:19].replace("T", " ") + " UTC"
