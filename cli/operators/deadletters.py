"""``saccade deadletters``: events that no handler took, deliveries given up, and failed jobs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final

import click
from saccade_client import Client

from cli.connection import open_client, server_options
from cli.failure import USAGE, Failure
from cli.output import format_time, print_json, print_line, print_note, print_table, shortened

_ERROR_CHARS: Final = 60
_POLL_S: Final = 0.5
_STATES: Final = ("open", "redriven", "discarded", "all")
_ACTION_WORDS: Final = {
    "handle": "its handler gets the event again",
    "refold": "the dispatcher folds its job from its history again",
    "redeliver": "it is sent to the endpoint again",
    "retry": "the job is retried",
}


def _choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose letters."""
    for option in (
        click.option("--until", help="Only letters before this time (RFC 3339)."),
        click.option("--since", help="Only letters of this time or later (RFC 3339)."),
        click.option("--group", help="Only letters of this group of errors."),
        click.option("--error", help="Only letters with this text in their error."),
        click.option("--type", "type_", metavar="TYPE", help="Only events of this type: job.failed."),
        click.option("--service", help="Only letters of this consumer or service."),
        click.option("--kind", type=click.Choice(["event", "delivery", "job"]), help="Only letters of this kind."),
        click.option("--tenant", help="Only letters of this tenant, with a key that reaches it."),
    ):
        command = option(command)
    return command


def _chosen(choice: dict[str, Any]) -> dict[str, Any]:
    return {name.rstrip("_"): value for name, value in choice.items() if value is not None}


@click.group()
def deadletters() -> None:
    """List what was given up: events, deliveries, jobs.

    They can be handled again, or set aside. The key needs the scope operate.
    """


@deadletters.command()
@_choice_options
@click.option("--state", type=click.Choice(_STATES), default="open", show_default=True, help="What became of them.")
@click.option("--groups", is_flag=True, help="Show groups of the same error, with counts.")
@click.option("-n", "--last", type=click.IntRange(1, 200), default=50, show_default=True, help="Newest letters shown.")
@server_options
def ls(*, state: str, groups: bool, last: int, url: str | None, as_json: bool, **choice: Any) -> None:
    """List dead letters, newest first."""
    state_params = {"every_state": True} if state == "all" else {"state": state}
    with open_client(url) as client:
        page = client.dead_letters.page(**_chosen(choice), **state_params, limit=last)
    shown = page["groups"] if groups else page["data"]
    if as_json:
        for item in shown:
            print_json(item)
        return
    if not shown:
        print_line("No dead letters.")
    elif groups:
        _print_groups(shown)
    else:
        rows = [
            (
                letter["id"],
                format_time(letter["time"]),
                letter["kind"],
                letter["service"],
                letter["type"],
                shortened(letter["error"], _ERROR_CHARS)
                + ("" if letter["state"] == "open" else f" ({letter['state']})"),
            )
            for letter in shown
        ]
        print_table(("LETTER", "TIME", "KIND", "SERVICE", "EVENT", "ERROR"), rows)
        if page["count"] > len(shown):
            print_note(f"{page['count']} in all; --groups counts them by error.")


@deadletters.command()
@click.argument("letter_id", metavar="LETTER")
@server_options
def show(letter_id: str, url: str | None, as_json: bool) -> None:
    """Show a dead letter with its event, and what was done about it."""
    with open_client(url) as client:
        letter = client.dead_letters.get(letter_id)
    if as_json:
        print_json(letter)
        return
    for name in ("id", "kind", "state", "tenant", "service", "type", "subject", "time", "error", "attempt", "made_by"):
        if letter[name] not in (None, ""):
            print_line(f"{name}: {letter[name]}")
    action = letter["redrive"]
    print_line(f"redrive: {_ACTION_WORDS[action] if action else 'no command can do it (docs/operations.md)'}")
    if letter["verified"]:
        print_line("The re-drive went well.")
    for act in letter["acts"]:
        print_line(f"{format_time(act['time'])} {act['verb']} by {act['by']}: {act['why']}")
    print_line(json.dumps(letter["event"], indent=2) if isinstance(letter["event"], dict) else str(letter["event"]))


def _act_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an act on one letter or on all that match."""
    for option in (
        click.option("--no-wait", is_flag=True, help="Return when the plan is stored, not when it is carried out."),
        click.option("--expect", "expected", type=click.IntRange(1), help="How many letters match, as --dry-run says."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        click.option("--why", required=True, help="The reason, for the audit log."),
    ):
        command = option(command)
    return server_options(_choice_options(command))


@deadletters.command()
@click.argument("letter_id", metavar="[LETTER]", required=False)
@_act_options
def redrive(letter_id: str | None, **options: Any) -> None:
    """Handle LETTER again, or all that match.

    What fails again is listed again, with one attempt more.
    """
    _act("redrive", letter_id, **options)


@deadletters.command()
@click.argument("letter_id", metavar="[LETTER]", required=False)
@_act_options
def discard(letter_id: str | None, **options: Any) -> None:
    """Set LETTER aside, or all that match; nothing is deleted."""
    _act("discard", letter_id, **options)


def _act(
    action: str,
    letter_id: str | None,
    *,
    why: str,
    dry_run: bool,
    expected: int | None,
    no_wait: bool,
    url: str | None,
    as_json: bool,
    **choice: Any,
) -> None:
    chosen = _chosen(choice)
    if letter_id and (chosen or expected):
        raise Failure("Name one letter, or choose letters by options.", code="usage", exit_code=USAGE)
    with open_client(url) as client:
        if letter_id:
            _act_on_one(client, action, letter_id, why, dry_run=dry_run, as_json=as_json)
            return
        if expected is None or dry_run:
            trial = client.dead_letters.plan(action, why=why, dry_run=True, **chosen)
            _show_trial(trial, dry_run=dry_run, as_json=as_json)
            return
        plan = client.dead_letters.plan(action, why=why, expected_count=expected, **chosen)
        while plan["state"] == "running" and not no_wait:
            time.sleep(_POLL_S)
            plan = client.dead_letters.plan_state(plan["id"])
    if as_json:
        print_json(plan)
        return
    print_line(
        f"{plan['id']} is {plan['state']}: {plan['done']} of {plan['count']} done, {plan['failed']} failed again."
    )
    for failure in plan["failures"]:
        print_line(f"{failure['id']}: {failure['message']} ({failure['code']})")


def _act_on_one(client: Client, action: str, letter_id: str, why: str, *, dry_run: bool, as_json: bool) -> None:
    if dry_run:
        letter = client.dead_letters.get(letter_id)
        redrive_action = letter["redrive"]
        if as_json:
            print_json(letter)
        elif action == "discard":
            print_line(f"{letter_id} would not be listed any more.")
        else:
            meaning = _ACTION_WORDS[redrive_action] if redrive_action else "no command can do it"
            print_line(f"A re-drive would mean: {meaning}.")
        return
    done = client.dead_letters.redrive(letter_id, why=why) if action == "redrive" else None
    done = done or client.dead_letters.discard(letter_id, why=why)
    if as_json:
        print_json(done)
    elif action == "discard":
        print_line(f"{letter_id} is discarded; `saccade deadletters ls --state discarded` still shows it.")
    else:
        print_line(f"{letter_id} is ordered again; `saccade deadletters show {letter_id}` says whether it went well.")


def _show_trial(trial: dict[str, Any], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(trial)
    else:
        _print_groups(trial["groups"])
        left_out = f"; {trial['left_out']} more match that no command can handle again" if trial["left_out"] else ""
        print_line(f"{trial['count']} dead letters{left_out}.")
    if not dry_run and trial["count"]:
        raise Failure(
            "Nothing was done: say how many you expect.",
            code="count_not_confirmed",
            hint=f"Send it again with --expect {trial['count']}.",
        )


def _print_groups(groups: list[dict[str, Any]]) -> None:
    rows = [
        (str(group["count"]), group["kind"], group["service"], group["id"], shortened(group["error"], _ERROR_CHARS))
        for group in groups
    ]
    if rows:
        print_table(("COUNT", "KIND", "SERVICE", "GROUP", "ERROR"), rows)
