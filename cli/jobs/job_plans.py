"""``saccade jobs cancel`` and ``saccade jobs retry``: act on all jobs that match, counted first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import click

from cli.connection import open_client, server_options
from cli.failure import Failure
from cli.output import print_json, print_line, print_note
from contracts.job import State

_POLL_S: Final = 0.5


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose jobs, and those of an act on all of them."""
    for option in (
        click.option("--no-wait", is_flag=True, help="Return when the plan is stored, not when it is carried out."),
        click.option("--why", help="The reason, for the audit log."),
        click.option("--expect", "expected", type=click.IntRange(1), help="Do it, if as many match: see --dry-run."),
        click.option("--yes", is_flag=True, help="Do it, however many match."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done; the default without --expect."),
        click.option("--until", help="Only jobs created before this time (RFC 3339)."),
        click.option("--since", help="Only jobs created at this time or later (RFC 3339)."),
        click.option("--rule", help="Only jobs that this rule submitted."),
        click.option("--workload", help="Only jobs of this workload."),
        click.option(
            "--state", "states", multiple=True, type=click.Choice([state.value for state in State]),
            help="Only jobs in this state; may be repeated.",
        ),
        click.option("--matching", "text", help="Only jobs with it in id, workload, file names or metadata (lap=7)."),
    ):  # fmt: skip
        command = option(command)
    return server_options(command)


@click.command()
@_options
def cancel(**options: Any) -> None:
    """Cancel all jobs that match: says how many, then does it with --expect or --yes."""
    _act("cancel", **options)


@click.command()
@_options
def retry(**options: Any) -> None:
    """Run all failed or cancelled jobs again that match: says how many, then does it with --expect or --yes."""
    _act("retry", **options)


def _act(
    action: str,
    *,
    text: str | None,
    states: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    expected: int | None,
    why: str | None,
    no_wait: bool,
    url: str | None,
    as_json: bool,
    **choice: str | None,
) -> None:
    chosen: dict[str, Any] = {"q": text, "state": list(states) or None, **choice}
    with open_client(url) as client:
        if dry_run or expected is None:
            trial = client.job_plans.check(action, **chosen)
            if dry_run or not yes or not trial["count"]:
                _show_trial(action, trial, as_json=as_json, is_asked=not dry_run and not yes)
                return
            expected = int(trial["count"])
        plan = client.job_plans.create(action, expected, why=why, **chosen)
        while plan["state"] == "running" and not no_wait:
            time.sleep(_POLL_S)
            plan = client.job_plans.get(plan["id"])
    if as_json:
        print_json(plan)
    else:
        counts = ", ".join(f"{plan[name]} {name}" for name in ("done", "skipped", "failed"))
        print_line(f"{plan['id']} is {plan['state']}: {counts} of {plan['count']} jobs.")
        for left in (*plan["skips"], *plan["failures"]):
            print_line(f"  {left['id']}: {left['message']} ({left['code']})")
    if plan["failed"] or plan["state"] == "abandoned":
        raise Failure("Not all jobs could be changed.", code="jobs_not_changed", hint="The lines above say why.")


def _show_trial(action: str, trial: dict[str, Any], *, as_json: bool, is_asked: bool) -> None:
    if as_json:
        print_json(trial)
        return
    states = ", ".join(f"{count} {state}" for state, count in trial["by_state"].items())
    print_line(f"{trial['count']} jobs match{f' ({states})' if states else ''}.")
    for job in trial["sample"]:
        metadata = " ".join(f"{name}={value}" for name, value in job["metadata"].items())
        print_line(f"  {job['id']}  {job['workload']}  {job['state']}  {metadata}".rstrip())
    if is_asked and trial["count"]:
        print_note(f"Nothing was done. To {action} them, repeat it with: --expect {trial['count']}")
