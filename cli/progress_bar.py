"""Progress of an operation: a bar at a terminal, occasional lines otherwise; sizes and durations as text."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cli.output import print_note

#: Called with a fraction from 0 to 1 and a short text.
ProgressCallback = Callable[[float, str], None]

_LINE_EVERY_S: Final = 5.0


@contextmanager
def progress_bar(title: str, *, silent: bool = False) -> Iterator[ProgressCallback]:
    """Show progress on standard error; yield the function that updates it."""
    if silent:
        yield lambda _fraction, _text: None
    elif sys.stderr.isatty():
        with _bar(title) as update:
            yield update
    else:
        yield _Lines(title).update


@contextmanager
def _bar(title: str) -> Iterator[ProgressCallback]:
    columns = (
        TextColumn("{task.description}", markup=False),  # file names may contain brackets
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TextColumn("{task.fields[text]}", style="dim", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{title:<22}", total=1.0, text="")

        def update(fraction: float, text: str) -> None:
            progress.update(task, completed=min(max(fraction, 0.0), 1.0), text=text)

        yield update


class _Lines:
    """Progress as lines: the first, the last, and one after each 25 % or 5 s."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._percent = -100
        self._printed_at_s = 0.0

    def update(self, fraction: float, text: str) -> None:
        percent = int(100 * min(max(fraction, 0.0), 1.0))
        now = time.monotonic()
        is_step = percent - self._percent >= 25
        if percent == self._percent or not (is_step or percent == 100 or now - self._printed_at_s > _LINE_EVERY_S):
            return
        self._percent, self._printed_at_s = percent, now
        print_note(f"{self._title:<22} {percent:3d} %  {text}".rstrip())


def format_size(count_bytes: float) -> str:
    """Format a number of bytes with its unit."""
    for unit in ("B", "KB", "MB"):
        if count_bytes < 1000:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1000
    return f"{count_bytes:.2f} GB"


def format_duration(seconds: float) -> str:
    """Format a duration as seconds, minutes or hours."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
