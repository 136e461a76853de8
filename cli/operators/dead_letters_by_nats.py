"""``saccade dead-letters``: events that a handler could not process, by NATS, when no gateway answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import click
from nats.aio.client import Client
from pydantic import BaseModel

from cli.operators.operator_bus import ask, by_option, change, change_options, data_option, run
from cli.output import format_time, print_json, print_line, print_table, shortened
from contracts.audit import audit_subject
from contracts.commands import DISPATCHER, DeadLetterDiscarded, DeadLetterRedriven, command
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.dead_letters import DeadLetter, DeadLetters
from kit.bus.event_store import EventStore

#: Outcomes after which a letter is not listed.
_SETTLED: Final = ("discarded", "redriven")
_ERROR_CHARS: Final = 60


class _Letters(BaseModel):
    letters: list[dict[str, Any]]


@click.group("dead-letters")
def dead_letters() -> None:
    """List events' letters by NATS.

    `saccade deadletters` lists all kinds, and asks the gateway.
    """


@dead_letters.command("list")
@click.option("--consumer", help="Only letters of this consumer.")
@click.option("--all", "with_settled", is_flag=True, help="Also those that were discarded.")
@data_option
def list_all(consumer: str | None, *, with_settled: bool, data: Path | None, as_json: bool) -> None:
    """List dead letters, oldest first."""

    async def act(client: Client) -> _Letters:
        settled = await _settled(client)
        found = [letter async for letter in _store(client).all() if consumer in (None, letter.consumer)]
        shown = [_shown(letter, settled) for letter in found]
        return _Letters(letters=[letter for letter in shown if with_settled or not letter["settled"]])

    letters = run(data, act).letters
    if as_json:
        for letter in letters:
            print_json(letter)
    elif letters:
        rows = [
            (
                str(letter["number"]),
                format_time(letter["time"]),
                letter["consumer"],
                letter["subject"],
                shortened(letter["error"], _ERROR_CHARS) + (f" ({letter['settled']})" if letter["settled"] else ""),
            )
            for letter in letters
        ]
        print_table(("LETTER", "TIME", "CONSUMER", "EVENT", "ERROR"), rows)
    else:
        print_line("No dead letters.")


@dead_letters.command()
@click.argument("number", metavar="LETTER", type=click.IntRange(min=1))
@data_option
def show(number: int, data: Path | None, as_json: bool) -> None:
    """Show a dead letter with its event."""

    async def act(client: Client) -> _Letters:
        letter = await _store(client).get(number)
        return _Letters(letters=[_shown(letter, await _settled(client)) | {"event": _event(letter)}])

    letter = run(data, act).letters[0]
    if as_json:
        print_json(letter)
        return
    for name in ("number", "time", "consumer", "stream", "sequence", "subject", "deliveries", "error", "settled"):
        if letter[name]:
            print_line(f"{name}: {letter[name]}")
    print_line(json.dumps(letter["event"], indent=2) if isinstance(letter["event"], dict) else str(letter["event"]))


@dead_letters.command()
@click.argument("number", metavar="LETTER", type=click.IntRange(min=1))
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--why", default="", help="The reason, for the audit log; needed without --dry-run.")
@by_option
@data_option
@click.pass_context
def redrive(
    context: click.Context, *, number: int, dry_run: bool, why: str, by: str, data: Path | None, as_json: bool
) -> None:
    """Handle a dead letter again; if that goes well, it is not listed any more."""
    if not dry_run and not why:
        raise click.MissingParameter(ctx=context, param_hint="'--why'", param_type="option")
    fields: dict[str, Any] = {"request_id": new_id("req")} if dry_run else dict(change(why, by))

    async def act(client: Client) -> DeadLetterRedriven:
        wanted = command(DISPATCHER, "redrive_dead_letter")
        return await ask(client, wanted, DeadLetterRedriven, dead_letter=number, dry_run=dry_run, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    action = (
        "its job is folded from its history again" if done.action == "refold" else f"{done.consumer} handles it again"
    )
    print_line(f"{done.subject}: {done.error or 'no reason was stored'}")
    print_line("Handled: the letter is not listed any more." if done.handled else f"A re-drive would mean: {action}.")


@dead_letters.command()
@click.argument("number", metavar="LETTER", type=click.IntRange(min=1))
@change_options
def discard(*, number: int, why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Set a dead letter aside: it is not listed any more, and nothing is deleted."""
    fields = change(why, by)

    async def act(client: Client) -> DeadLetterDiscarded:
        wanted = command(DISPATCHER, "discard_dead_letter")
        return await ask(client, wanted, DeadLetterDiscarded, dead_letter=number, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        print_line(f"Dead letter {done.dead_letter} is discarded; `saccade dead-letters list --all` still shows it.")


def _store(client: Client) -> DeadLetters:
    return DeadLetters(EventStore(client, DEADLETTERS.name))


async def _settled(client: Client) -> dict[int, str]:
    """Return the outcome of each letter that was discarded or handled again."""
    audit = AuditLog(EventStore(client, OPS.name), "")
    settled: dict[int, str] = {}
    for verb in _SETTLED:
        async for record in audit.records(subjects=audit_subject("*", "dead_letter", "*", verb)):
            settled[int(record.subject_id)] = verb
    return settled


def _shown(letter: DeadLetter, settled: dict[int, str]) -> dict[str, Any]:
    return {
        "number": letter.number,
        "time": letter.time.isoformat() if letter.time else None,
        "consumer": letter.consumer,
        "stream": letter.stream,
        "sequence": letter.sequence,
        "subject": letter.subject,
        "deliveries": letter.deliveries,
        "error": letter.error,
        "settled": settled.get(letter.number),
    }


def _event(letter: DeadLetter) -> Any:
    if not letter.body:
        return f"The letter has no event: it was too large for it. `saccade deadletters show {letter.number}` finds it."
    try:
        return json.loads(letter.body)
    except ValueError:
        return letter.body.decode(errors="replace")
