"""Output of the command: text and tables for people, JSON lines for programs, errors on standard error."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from cli.failure import Failure

#: Control characters but tab and newline: texts of models, cameras and other clients must not command the terminal.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _StandardOutput:
    """Standard output. A closed pipe is ignored: a system or an upload does not end with who reads its lines."""

    def __init__(self) -> None:
        self.is_closed = False

    def write(self, text: str) -> None:
        """Write a line."""
        try:
            click.echo(text)
        except BrokenPipeError:
            self.is_closed = True


_OUT: Final = _StandardOutput()


def reader_is_gone() -> bool:
    """Return whether nobody reads standard output any more: a command that only prints what comes has to end."""
    return _OUT.is_closed


def print_line(text: str = "") -> None:
    """Print a line on standard output; a closed pipe is ignored."""
    _OUT.write(_printable(text))


def print_note(text: str) -> None:
    """Print a line on standard error."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(_printable(text), err=True)


def print_json(value: Any) -> None:
    """Print a JSON value on one line of standard output; a closed pipe is ignored."""
    _OUT.write(json.dumps(value, default=str))


def print_failure(failure: Failure, *, as_json: bool = False) -> None:
    """Print an error and its hint on standard error."""
    if as_json:
        body = {"error": {"code": failure.code, "message": failure.message, "hint": failure.hint}}
        with contextlib.suppress(BrokenPipeError):
            click.echo(json.dumps(body), err=True)
        return
    print_note(f"error: {failure.message.rstrip('.')} ({failure.code})")
    if failure.hint:
        print_note(f"  hint: {failure.hint}")


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print aligned columns; columns of numbers are aligned right."""
    lines = [list(map(str, row)) for row in rows]
    widths = [max(len(row[index]) for row in [list(head), *lines]) for index in range(len(head))]
    right = [bool(lines) and all(_is_number(row[index]) for row in lines) for index in range(len(head))]
    for row in [list(head), *lines]:
        cells = [
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ]
        print_line("  ".join(cells).rstrip())


def display_path(path: Path) -> str:
    """Return a path relative to the current folder where it is inside, else as it is."""
    try:
        return f"./{path.relative_to(Path.cwd())}"
    except ValueError:
        return str(path)


def format_time(text: str | None) -> str:
    """Format an RFC 3339 time to the second; empty for None."""
    return "" if text is None else text[:19].replace("T", " ") + " UTC"


def shortened(text: str, most_characters: int) -> str:
    """Return a text, cut at its end if it has more characters."""
    return text if len(text) <= most_characters else f"{text[: most_characters - 1]}…"


def _printable(text: str) -> str:
    """Return a text without control characters, and with bytes of file names that are not UTF-8 written out."""
    return _CONTROLS.sub("\ufffd", text).encode(errors="backslashreplace").decode()


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.lstrip("+-−~$").replace(".", "", 1).split(" ")[0].rstrip("%").isdigit()
