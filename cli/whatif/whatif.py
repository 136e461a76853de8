"""``saccade whatif``: replay a window of events through today's dispatcher, with its settings or others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from cli.failure import USAGE, Failure
from cli.history.access import open_access
from cli.history.files import read_whole
from cli.output import print_json, print_line, print_table
from cli.whatif.recorded_window import question_of_file, read_question
from contracts.errors import SaccadeError
from services.whatif.child_input import Question
from services.whatif.replay_settings import names, parsed
from services.whatif.sandbox import ask_in_sandbox

_SENTENCES = {
    "same": "Same: today's dispatcher decides the same.",
    "different": "Different: today's dispatcher decides otherwise.",
    "unknown": "Unknown: some decisions cannot be taken again.",
}


@click.command()
@click.option("--since", help="From 90s, 15m, 2h or 7d ago, a time (RFC 3339), or after a cursor. [default: the first]")
@click.option("--until", help="Up to a time or a cursor, which is included. [default: now]")
@click.option(
    "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A file of `saccade events export`."
)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="With another setting; can be repeated.")
@click.option(
    "--recorded-with", "recorded", multiple=True, metavar="NAME=VALUE", help="A setting that it was recorded with."
)
@click.option("--settings", "list_settings", is_flag=True, help="List what --set can name.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the embedded system.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")
def whatif(
    *,
    since: str | None,
    until: str | None,
    file: Path | None,
    changes: tuple[str, ...],
    recorded: tuple[str, ...],
    list_settings: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Compare past decisions with those of today's dispatcher.

    Nothing is launched or published: the events are replayed in a process without network or credentials.
    With --set it also tells what the same jobs would have cost: recorded and modelled attempts apart.
    """
    if list_settings:
        for name in names():
            print_line(name)
        return
    if file and (since or until or data):
        raise Failure(
            "--file is a whole window: it goes without --since, --until, --data.", code="usage", exit_code=USAGE
        )
    wanted, known = _assigned(changes, "--set"), _assigned(recorded, "--recorded-with")
    if file:
        segment, _ = read_whole(file)
        question = question_of_file(list(segment.events()), known, wanted)
    else:
        question = asyncio.run(_read(data, since, until, known, wanted))
    answer = ask_in_sandbox(question)
    if as_json:
        print_json(answer | {"set": wanted, "settings": dict(question.settings)})
    else:
        _show(answer, wanted)
    if answer["answer"] != "same" and not wanted:
        raise SystemExit(1)


async def _read(
    data: Path | None, since: str | None, until: str | None, known: dict[str, Any], wanted: dict[str, Any]
) -> Question:
    async with open_access(data) as access:
        return await read_question(access.client, since, until, known, wanted)


def _assigned(assignments: Iterable[str], option: str) -> dict[str, Any]:
    """Return the values of ``NAME=VALUE`` pairs.

    Raises:
        Failure: one is no pair, or names no setting.
    """
    pairs: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise Failure(
                f"{option} {text}: a name and a value are needed.",
                code="usage",
                hint=f"For example: {option} slots=8",
                exit_code=USAGE,
            )
        pairs[name.strip()] = value.strip()
    try:
        return parsed(pairs)
    except SaccadeError as error:
        raise Failure(error.message, code="usage", hint=error.hint, exit_code=USAGE) from error


def _show(answer: dict[str, Any], wanted: dict[str, Any]) -> None:
    print_line(_SENTENCES[answer["answer"]])
    compared = sum(answer["compared"].values())
    print_line(
        f"{answer['begin'][:19]}Z to {answer['end'][:19]}Z: {answer['events']} events of {answer['jobs']} jobs, "
        f"{compared} decisions taken again."
    )
    if answer["not_compared"]:
        print_line(f"Not compared: {', '.join(f'{count} {kind}' for kind, count in answer['not_compared'].items())}.")
    for kind, title in (("different", "First that differs"), ("unknown", "First that is unknown")):
        found = [each for each in answer["findings"] if each["kind"] == kind]
        if found:
            first = found[0]
            print_line(f"{title}, of {answer[kind]}: {first['at'][:19]}Z {first['subject']} ({first['tenant']})")
            print_line(f"  recorded: {first['recorded']}")
            print_line(f"  today:    {first['today']}")
    print_line(f"Cost of the window, recorded: {answer['recorded_usd']:.2f} USD.")
    money = answer["money"]
    if money is not None:
        print_line(f"With {', '.join(f'{name}={value}' for name, value in wanted.items())}:")
        rows = [
            ["as recorded", str(money["recorded_attempts"]), f"{money['recorded_usd']:.2f}"],
            ["modelled", str(money["modelled_attempts"]), f"{money['modelled_usd']:.2f}"],
        ]
        print_table(["attempts", "number", "USD"], rows)
        print_line("Modelled attempts were never recorded: they are medians, no measurements, and are not added up.")
        if money["unfinished"]:
            print_line(f"{money['unfinished']} jobs have not ended by the end of the window.")
