"""Follow a replay to its end: print its events, write them into a file, or show the server's progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from saccade_client import Client, ReplayView

from cli.failure import Failure
from cli.output import display_path, print_line, print_note, reader_is_gone
from cli.progress_bar import progress_bar
from cli.replays.replay_text import fraction_of, progress_text

_POLL_S: Final = 0.5
#: Events after which the progress is shown again.
_SHOWN_EVERY: Final = 50


def follow(client: Client, replay: ReplayView, file: Path | None, *, after: str | None = None) -> ReplayView:
    """Follow a replay that runs, and return it as it ended.

    Raises:
        Failure: it did not complete, or the file is another one.
    """
    if replay.into == "file" and file is None:
        raise Failure(
            "This replay goes into a file.", code="usage", hint=f"saccade replay follow {replay.id} --into FILE"
        )
    if replay.into == "sse":
        _print_events(client, replay, after)
    elif replay.into == "file" and file is not None:
        _write_file(client, replay, file)
    else:
        _watch(client, replay)
    return _ended(client.replays.get(replay.id))


def _ended(replay: ReplayView) -> ReplayView:
    if replay.state == "completed":
        print_note(f"Completed: {progress_text(replay)}.")
        return replay
    error = replay.error or {}
    message = error.get("message") or f"The replay is {replay.state}: {progress_text(replay)}."
    raise Failure(message, code=error.get("code", f"replay_{replay.state}"), hint=error.get("hint", ""))


def _print_events(client: Client, replay: ReplayView, after: str | None) -> None:
    events = client.replays.stream(replay.id, last_id=after)
    with _goes_on(replay, lambda: f" --after {events.last_id}" if events.last_id else ""):
        for event in events:
            print_line(event.body.decode(errors="replace"))
            if reader_is_gone():
                raise click.Abort


def _write_file(client: Client, replay: ReplayView, path: Path) -> None:
    from cli.replays.replay_file import ReplayFile  # noqa: PLC0415 - zstandard, for files only

    file = ReplayFile(path, replay)
    if file.events:
        print_note(f"{display_path(path)} has {file.events} events; it goes on after them.")
    with _goes_on(replay, lambda: f" --into {path}"), progress_bar("Replay") as update:
        try:
            events = client.replays.stream(replay.id, last_id=file.last_id)
            for event in events:
                file.write(event)
                if file.events % _SHOWN_EVERY == 0:
                    update(file.events / max(1, replay.count), f"{file.events} of {replay.count} events")
            if events.state not in (None, "completed"):
                return
            update(1.0, f"{file.events} events")
            manifest = file.finish()
        finally:
            file.close()
    if manifest.events != replay.count:
        message = f"{display_path(path)} has {manifest.events} events, the plan {replay.count}."
        raise Failure(message, code="replay_count_differs", hint="Events of the window were erased meanwhile.")
    print_note(f"{display_path(path)}: {manifest.events} events, hash {manifest.sha256}")


def _watch(client: Client, replay: ReplayView) -> None:
    paused = ""
    with _goes_on(replay, str), progress_bar("Replay") as update:
        while not replay.ended:
            text = progress_text(replay)
            update(fraction_of(replay), f"{text}, paused" if replay.state == "paused" else text)
            if replay.state == "paused" and paused != (paused := replay.paused_why or "no reason given"):
                print_note(f"Paused: {paused}. saccade replay resume {replay.id}")
            time.sleep(_POLL_S)
            replay = client.replays.get(replay.id)
        update(fraction_of(replay), progress_text(replay))


@contextmanager
def _goes_on(replay: ReplayView, options: Callable[[], str]) -> Iterator[None]:
    """Report at Ctrl-C what becomes of the replay, which is the server's."""
    try:
        yield
    except (KeyboardInterrupt, click.Abort):
        more = options()
        if replay.into in ("sse", "file"):
            print_note(f"\nThe replay waits at the server for its reader: saccade replay follow {replay.id}{more}")
        else:
            print_note(f"\nThe replay goes on at the server: saccade replay show {replay.id}")
        print_note(f"To end it: saccade replay cancel {replay.id}")
        raise
