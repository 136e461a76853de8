"""``saccade jobs`` and ``saccade job``: list the jobs, or show one."""

from __future__ import annotations

import itertools

import click
from saccade_client import JobView

from cli.connection import open_client, server_options
from cli.jobs.follow import hint_of, warnings_of
from cli.jobs.latest import find_job
from cli.jobs.result import inputs_text, outcome_text, result_lines
from cli.output import format_time, print_json, print_line, print_table
from contracts.job import State


@click.command()
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state.")
@click.option("--workload", help="Only jobs of this workload.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, newest first.")
@server_options
def jobs(state: str | None, workload: str | None, limit: int, url: str | None, as_json: bool) -> None:
    """List your jobs, newest first."""
    with open_client(url) as client:
        found = client.jobs(state=state, workload=workload, page_size=min(limit, 200))
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


@click.command()
@click.argument("job_id", metavar="ID")
@server_options
def job(job_id: str, url: str | None, as_json: bool) -> None:
    """Show one job.

    ID may be `latest`: the newest of your jobs.
    """
    with open_client(url) as client:
        found = find_job(client, job_id)
        server = client.url
    _show(found, server, as_json=as_json)


def _show(found: JobView, server: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    lines = {
        "job": found.id,
        "workload": found.workload,
        "state": found.state,
        "done": f"{100 * found.progress:.0f} %  {found.stage or ''} {found.message or ''}".rstrip(),
        "attempt": str(found.attempt),
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


def _cost(found: JobView) -> str:
    if found.cost is None:
        return ""
    parts = {"estimated": found.cost.estimated_usd, "actual": found.cost.actual_usd}
    return ", ".join(f"${usd:.4f} {name}" for name, usd in parts.items() if usd is not None)
