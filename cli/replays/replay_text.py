"""Replays as text: the plan before the start, one row of the list, the progress."""

from __future__ import annotations

from typing import Any

from saccade_client import ReplayView

from cli.output import format_time, print_line, print_note, print_table
from cli.progress_bar import format_duration


def show_plan(replay: ReplayView) -> None:
    """Print what a replay sends."""
    plan, window = replay.plan, replay.window
    print_note(f"{replay.id}  {replay.count} events into {replay.into} at {_pace(replay)}")
    print_note(f"  window   {window['after']} to {window['until']}{_times(window)}")
    for name, number in sorted(plan["by_type"].items(), key=lambda item: -item[1]):
        print_note(f"  {number:>9} {name}")
    if plan["takes"] != replay.count:
        print_note(f"  taken    at most {plan['takes']}: the target skips the others")
    for label, events in (("first", plan["first"][:1]), ("last", plan["last"][-1:])):
        for event in events:
            print_note(f"  {label:<8} {format_time(event['time'])}  {event['type']}  {event['subject']}")
    print_note(f"  takes    about {format_duration(plan['seconds'])}")
    for warning in plan["warnings"]:
        print_note(f"  warning  {warning}")


def show_replay(replay: ReplayView) -> None:
    """Print a replay and how far it is."""
    show_plan(replay)
    print_line(f"{replay.id} is {replay.state}{_reason(replay)}")
    if replay.progress:
        print_line(progress_text(replay))
    for label, value in (("by", replay.by), ("why", replay.why)):
        if value:
            print_line(f"{label}: {value}")


def show_list(replays: list[ReplayView]) -> None:
    """Print a table of replays."""
    head = ("REPLAY", "STATE", "INTO", "EVENTS", "DONE", "PLANNED", "BY")
    print_table(
        head,
        [
            (each.id, each.state, each.into, str(each.count), str(_done(each)), format_time(each.planned_at), each.by)
            for each in replays
        ],
    )


def progress_text(replay: ReplayView) -> str:
    """Return how far a replay is, in words."""
    counts: dict[str, Any] = replay.progress or {}
    parts = [f"{counts.get('sent', 0)} of {replay.count} sent"]
    parts += [f"{counts[name]} {name}" for name in ("skipped", "failed") if counts.get(name)]
    return ", ".join(parts)


def fraction_of(replay: ReplayView) -> float:
    """Return the share of the events that is done."""
    return min(1.0, _done(replay) / replay.count) if replay.count else 1.0


def _done(replay: ReplayView) -> int:
    counts = replay.progress or {}
    return sum(int(counts.get(name, 0)) for name in ("sent", "skipped", "failed"))


def _pace(replay: ReplayView) -> str:
    extra: dict[str, Any] = replay.model_dump()
    pace = replay.speed
    if extra.get("max_gap_s") is not None:
        pace += f", waits of at most {extra['max_gap_s']:g} s"
    if extra.get("rate_per_s") is not None:
        pace += f", at most {extra['rate_per_s']:g} events a second"
    return pace


def _times(window: dict[str, Any]) -> str:
    since, until = window.get("since_time"), window.get("until_time")
    return f"  ({format_time(since)} to {format_time(until)})" if since and until else ""


def _reason(replay: ReplayView) -> str:
    if replay.error:
        return f": {replay.error.get('message', '')} ({replay.error.get('code', '')})"
    return f": {replay.paused_why}" if replay.paused_why else ""
