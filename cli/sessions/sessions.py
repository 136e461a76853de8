"""``saccade sessions``: list, open, ask, stop, reset, replay and export live sessions."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from saccade_client import SessionView

from cli.command_hints import command_hint
from cli.connection import open_client, server_options
from cli.failure import INTERRUPTED
from cli.jobs.changes import POINT_HELP, print_changes
from cli.jobs.events import parse_since
from cli.jobs.submission import check_opened, find_workload, parse_params, read_params
from cli.output import format_time, print_json, print_line, print_note, print_table
from cli.progress_bar import format_size, progress_bar
from cli.sessions.replay import ComparedValue, compare, follow_replay, open_replay, require_identical, warn_of_failure
from cli.sessions.words import ask, texts
from contracts.limits import SESSION_LENGTH_S

_STATES: Final = ("opening", "ready", "running", "stopping", "stopped", "failed")
_STOP_S: Final = 60


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Choice(_STATES), help="Only sessions in this state.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--at", metavar="POINT", help=f"The list as it was: {POINT_HELP}.")
@server_options
@click.pass_context
def sessions(
    context: click.Context, *, state: str | None, limit: int, at: str | None, url: str | None, as_json: bool
) -> None:
    """List or control live sessions.

    Without a subcommand: list your sessions, newest first.
    """
    if context.invoked_subcommand is not None:
        for name in ("state", "limit", "at"):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"--{name} applies to the list, not to {context.invoked_subcommand}.")
        # Options before the subcommand are its defaults.
        context.default_map = {context.invoked_subcommand: {"url": url, "as_json": as_json}}
        return
    with open_client(url) as client:
        found = client.sessions.all(state=state, at=parse_since(at) if at else None, page_size=min(limit, 200))
        listed = list(itertools.islice(found, limit))
    if as_json:
        for session in listed:
            print_json(session.model_dump(mode="json"))
    elif listed:
        head = ("SESSION", "WORKLOAD", "STATE", "ACCEPTED", "DROPPED", "REJECTED", "SPLATS", "PSNR", "COST")
        print_table(head, [_row(session) for session in listed])
    else:
        print_line("No sessions.")


sessions.add_command(ask)
sessions.add_command(texts)


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--at", metavar="POINT", help=f"The session as it was: {POINT_HELP}.")
@server_options
def show(session_id: str, at: str | None, url: str | None, as_json: bool) -> None:
    """Show one session."""
    with open_client(url) as client:
        found = client.sessions.get(session_id, at=parse_since(at) if at else None)
        server = client.url
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _describe(found, server)


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.argument("since", metavar="A")
@click.argument("until", metavar="[B]", required=False)
@server_options
def diff(*, session_id: str, since: str, until: str | None, url: str | None, as_json: bool) -> None:
    """Compare a session at two points.

    A and B are cursors, times (RFC 3339), or 90s, 15m, 2h or 7d ago; B is now by default.
    """
    with open_client(url) as client:
        found = client.sessions.changes(session_id, parse_since(since), parse_since(until) if until else None)
    print_changes(found, as_json=as_json)


@sessions.command("open")
@click.argument("workload")
@click.option(
    "--params",
    "given",
    default="{}",
    metavar="JSON|@FILE",
    help="Parameters as JSON or a file, for example from calibrate.",
)
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the workload.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="Stop the session at this cost.")
@click.option(
    "--idle-timeout",
    "idle_timeout_s",
    type=click.FloatRange(min=1),
    help="Stop after so many seconds without telemetry.",
)
@click.option(
    "--max-length",
    "max_length_s",
    type=click.FloatRange(min=1, max=SESSION_LENGTH_S),
    help="Stop after so many seconds; four hours at most.",
)
@click.option("--idempotency-key", help="Repeating the request with the same key returns the same session.")
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
    """Open a session of WORKLOAD.

    Frames may be sent at once. --json shows the addresses to stream to and their credentials.
    """
    params = read_params(given) | parse_params(pairs)
    with open_client(url) as client:
        check_opened(find_workload(client, workload))
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
    print_note(f"  to watch it: {server}{made.links['page']}")
    print_note(f"  to stop it: saccade sessions stop {made.id}")


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--wait", "waited", is_flag=True, help="Wait until its worker has written the final model.")
@server_options
def stop(session_id: str, waited: bool, url: str | None, as_json: bool) -> None:
    """Stop a session.

    Its worker writes the final model.
    """
    with open_client(url) as client:
        found = client.sessions.stop(session_id, wait_s=_STOP_S if waited else None)
        while waited and not found.ended:
            found = client.sessions.get(session_id, wait_s=_STOP_S)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.ended:
        print_line(f"Session {found.id} is {found.state}. {_frames(found)}.")
    else:
        print_line(f"Stop of session {found.id} is requested.")


@sessions.command()
@click.argument("session_id", metavar="ID")
@server_options
def reset(session_id: str, url: str | None, as_json: bool) -> None:
    """Discard a session's model and start again.

    Exported chunks are kept.
    """
    with open_client(url) as client:
        found = client.sessions.reset(session_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"Reset of session {found.id} is requested.")


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="Change a parameter of the session.")
@click.option("--follow", "-f", is_flag=True, help="Wait for its end and compare both results.")
@server_options
def replay(*, session_id: str, pairs: tuple[str, ...], follow: bool, url: str | None, as_json: bool) -> None:
    """Replay a session's recorded telemetry.

    The telemetry of session ID is replayed into a new session with the same timing. --follow waits for the end and
    checks that both results are identical.
    """
    params = parse_params(pairs)
    with open_client(url) as client:
        original, opened = open_replay(client, session_id, params)
        if not follow:
            if as_json:
                print_json(opened.model_dump(mode="json"))
            else:
                print_line(f"Session {opened.id} replays {original.id}.")
                print_note(f"  to show it: saccade sessions show {opened.id}")
            return
        if not as_json:
            print_line(f"Session {opened.id} replays {original.id}.")
            warn_of_failure(original)
        try:
            with progress_bar("Replaying", silent=as_json) as update:
                ended = follow_replay(client, original, opened, update)
        except KeyboardInterrupt:
            print_note(f"\nThe replay still runs. To stop it: saccade sessions stop {opened.id}")
            raise SystemExit(INTERRUPTED) from None
        compared = compare(client, original, ended)
    _print_comparison(original, ended, compared, as_json=as_json)
    if not params:  # other parameters may give another result
        require_identical(compared)


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@server_options
def export(session_id: str, file: Path, url: str | None, as_json: bool) -> None:
    """Export a session as an MCAP file.

    FILE contains the telemetry and each frame's verdict; it opens in Foxglove.
    """
    from cli.sessions.mcap_export import export_session  # noqa: PLC0415 - only export needs MCAP

    with open_client(url) as client, progress_bar("Exporting", silent=as_json) as update:
        done = export_session(client, session_id, file, update)
    if as_json:
        print_json({"path": str(file.absolute()), "bytes": file.stat().st_size, **asdict(done)})
        return
    if done.frames_missing:
        print_note(f"  note: the first {done.frames_missing} frames have expired.")
    if done.unreadable:
        print_note(f"  note: {done.unreadable} messages could not be read.")
    parts = (f"{done.frames} frames", f"{done.joint_samples} joint samples", f"{done.verdicts} verdicts")
    print_line(f"{file}  {format_size(file.stat().st_size)}: {', '.join(parts)}")


def _row(session: SessionView) -> tuple[str, ...]:
    counts = (session.frames.accepted, session.frames.dropped, session.frames.rejected)
    return (
        session.id,
        session.workload,
        session.state,
        *map(str, counts),
        _splats(session),
        _psnr(session),
        f"${session.cost.actual_usd:.4f}",
    )


def _splats(session: SessionView) -> str:
    count = session.figures.get("splats")
    return str(count) if isinstance(count, int) else "-"


def _psnr(session: SessionView) -> str:
    psnr_db = session.figures.get("psnr_db")
    return f"{psnr_db:.1f} dB" if isinstance(psnr_db, (int, float)) else "-"


def _frames(session: SessionView) -> str:
    frames = session.frames
    parts = [f"{getattr(frames, name)} {name}" for name in ("accepted", "dropped", "rejected")]
    waiting = [f"{frames.waiting} waiting"] if frames.waiting else []
    return f"{frames.sent} frames sent = {' + '.join([*parts, *waiting])}"


def _why(session: SessionView) -> str:
    """Return what was wrong with the last rejected frame; empty if none was rejected."""
    last = session.frames.last_rejection
    return f"frame {last.seq} of {last.source}: {last.detail or last.reason} ({last.reason})" if last else ""


def _describe(session: SessionView, server: str) -> None:
    limit = f" of at most ${session.cost.max_usd:.4f}" if session.cost.max_usd is not None else ""
    lines: dict[str, Any] = {
        "session": session.id,
        "workload": session.workload,
        "state": session.state + (f" ({session.reason})" if session.reason else ""),
        "frames": _frames(session),
        "refused": ", ".join(f"{count} {reason}" for reason, count in session.frames.reasons.items()),
        "why": _why(session),
        "text": session.text.text if session.text else "",
        "alert": f"{session.alert.rule}: {session.alert.condition}" if session.alert else "",
        "splats": _splats(session).strip("-"),
        "psnr": _psnr(session).strip("-"),
        "as of": f"{format_time(session.as_of.time)} {session.as_of.cursor}".strip() if session.as_of else "",
        "opened": format_time(session.created_at),
        "started": format_time(session.started_at),
        "finished": format_time(session.finished_at),
        "params": ", ".join(f"{name}={_brief(value)}" for name, value in session.params.items()),
        "replay of": session.replay_of,
        "cost": f"${session.cost.actual_usd:.4f}{limit}",
        "job": (session.job or {}).get("id"),
        "page": f"{server}{session.links['page']}" if "page" in session.links else "",
        "error": f"{session.error.message} ({session.error.code})" if session.error else "",
        "hint": command_hint(session.error.code, session.error.hint, {"workload": session.workload})
        if session.error
        else "",
    }
    for name, text in lines.items():
        if text:
            print_line(f"{name:<9} {text}")


def _print_comparison(
    original: SessionView, ended: SessionView, compared: list[ComparedValue], *, as_json: bool
) -> None:
    same = all(value.same for value in compared)
    if as_json:
        parts = [asdict(value) | {"same": value.same} for value in compared]
        print_json({"session": ended.id, "replay_of": original.id, "same": same, "compared": parts})
        return
    rows = [
        (value.name, _short(value.original), _short(value.replay), "same" if value.same else "differs")
        for value in compared
    ]
    print_table(("VALUE", "ORIGINAL", "REPLAY", ""), rows)
    if same:
        print_line(
            f"The replay is identical, including {sum('.' in value.name for value in compared)} files bit by bit."
        )


def _short(value: Any) -> str:
    """Format a value in at most 16 characters."""
    return "-" if value is None else str(value)[:16]


def _brief(value: Any) -> str:
    """Format a parameter; lists and objects are shown by --json only."""
    return "…" if isinstance(value, (dict, list)) else str(value)
