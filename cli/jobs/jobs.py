"""``saccade jobs`` and ``saccade job``: list the jobs, or show one."""

from __future__ import annotations

import itertools

import click
from saccade_client import JobView
from saccade_client.check_view import JobCountsView
from saccade_client.history_views import IncompleteView

from cli.connection import open_client, server_options
from cli.jobs.changes import POINT_HELP, diff
from cli.jobs.events import parse_since
from cli.jobs.follow import hint_of, warnings_of
from cli.jobs.follow_ups import next_commands
from cli.jobs.job_plans import cancel, retry
from cli.jobs.latest import find_job
from cli.jobs.result import inputs_text, outcome_text, result_lines
from cli.output import format_time, print_json, print_line, print_note, print_table
from contracts.job import State


@click.group(invoke_without_command=True)
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state.")
@click.option("--workload", help="Only jobs of this workload.")
@click.option("--search", "text", metavar="TEXT", help="Only jobs with it in id, workload, file names or metadata.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@click.option("--at", metavar="POINT", help=f"The list as it was: {POINT_HELP}.")
@click.option("--count", "counted", is_flag=True, help="Count them by state and workload instead.")
@server_options
@click.pass_context
def jobs(
    ctx: click.Context,
    *,
    state: str | None,
    workload: str | None,
    text: str | None,
    limit: int,
    at: str | None,
    counted: bool,
    url: str | None,
    as_json: bool,
) -> None:
    """List your jobs, newest first.

    With a command behind it, cancel or retry all that match.
    """
    if ctx.invoked_subcommand:
        if state or workload or text or at or counted:
            raise click.UsageError(f"Write the options behind `{ctx.invoked_subcommand}`.")
        return
    if counted and at:
        raise click.UsageError("--count tells the present: leave --at out.")
    with open_client(url) as client:
        if counted:
            _print_counts(client.count_jobs(state=state, workload=workload, text=text), as_json=as_json)
            return
        point = parse_since(at) if at else None
        # A program that reads JSON would take what is missing for what does not exist.
        notes = None if as_json else _note_incomplete
        search = {"state": state, "workload": workload, "text": text, "at": point}
        found = client.jobs(**search, page_size=min(limit, 200), on_incomplete=notes)
        listed = list(itertools.islice(found, limit))
    if as_json:
        for job in listed:
            print_json(job.model_dump(mode="json"))
    elif listed:
        rows = [
            (
                job.id,
                job.workload,
                job.state,
                f"{100 * job.progress:.0f} %",
                format_time(job.created_at),
                outcome_text(job),
            )
            for job in listed
        ]
        print_table(("JOB", "WORKLOAD", "STATE", "DONE", "CREATED", "RESULT"), rows)
    else:
        print_line("No jobs.")


jobs.add_command(cancel)
jobs.add_command(retry)


def _note_incomplete(incomplete: IncompleteView) -> None:
    count = incomplete.events_missing
    print_note(f"The server reads its history: jobs of the newest {count} events are missing, or shown as they were.")


def _print_counts(counts: JobCountsView, *, as_json: bool) -> None:
    if as_json:
        print_json(counts.model_dump(mode="json"))
        return
    more = "" if counts.complete else " at least"
    print_line(f"{counts.count} jobs{more}")
    for numbers in (counts.by_state, counts.by_workload):
        for name, count in sorted(numbers.items(), key=lambda pair: -pair[1]):
            print_line(f"  {count:>7}  {name}")


class _JobCommands(click.Group):
    """Group whose first argument is a subcommand, or else the id of the job to show."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a subcommand; the name of none is the id of a job to show."""
        return super().get_command(ctx, cmd_name) or show

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the subcommand; without one, the command that shows a job, with all arguments."""
        if args and args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return show.name, show, args

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave options to the command that shows a job, unless they ask for help."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = [show.name or "", *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of the command that shows a job, then the subcommands."""
        show.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the usage of the most frequent call."""
        formatter.write_usage(ctx.command_path, "ID [OPTIONS] | COMMAND [ARGS]...")


@click.group(cls=_JobCommands)
def job() -> None:
    """Show one job.

    `saccade job ID` shows it, also as it was: `saccade job ID --at POINT`. ID may be `latest`: the newest of your jobs.
    """


@job.command()
@click.argument("job_id", metavar="ID")
@click.option("--at", metavar="POINT", help=f"The job as it was: {POINT_HELP}.")
@server_options
def show(job_id: str, at: str | None, url: str | None, as_json: bool) -> None:
    """Show one job.

    ID may be `latest`: the newest of your jobs.
    """
    with open_client(url) as client:
        found = find_job(client, job_id)
        if at:
            found = client.job(found.id, at=parse_since(at))
        server, following = client.url, [] if as_json else next_commands(client, found)
    _show(found, server, following, as_json=as_json)


job.add_command(diff)


def _show(found: JobView, server: str, following: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    lines = {
        "job": found.id,
        "workload": found.workload,
        "state": found.state,
        "done": f"{100 * found.progress:.0f} %  {found.stage or ''} {found.message or ''}".rstrip(),
        "attempt": str(found.attempt),
        "as of": f"{format_time(found.as_of.time)} {found.as_of.cursor}".strip() if found.as_of else "",
        "created": format_time(found.created_at),
        "started": format_time(found.started_at),
        "finished": format_time(found.finished_at),
        "params": ", ".join(f"{name}={value}" for name, value in found.params.items()),
        "cost": _cost(found),
        "inputs": inputs_text(found),
        "error": f"{found.error.message} ({found.error.code})" if found.error else "",
        "hint": hint_of(found),
    } | result_lines(found, server)
    for name, text in lines.items():
        if text:
            print_line(f"{name:<9} {text}")
    for warning in warnings_of(found):
        print_line(f"{'note':<9} {warning}")
    for command in following:
        print_line(f"{'next':<9} {command}")


def _cost(found: JobView) -> str:
    if found.cost is None:
        return ""
    parts = {"estimated": found.cost.estimated_usd, "actual": found.cost.actual_usd}
    return ", ".join(f"${usd:.4f} {name}" for name, usd in parts.items() if usd is not None)
