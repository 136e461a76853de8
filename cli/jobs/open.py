"""``saccade open``: show a job's report in a browser."""

from __future__ import annotations

import click

from cli.browser import open_in_browser
from cli.connection import open_client, server_options
from cli.failure import Failure
from cli.jobs.follow import failure_of
from cli.jobs.latest import find_job
from cli.output import print_json, print_line, print_note
from cli.settings import CommandSettings


@click.command("open")
@click.argument("job_id", metavar="ID")
@server_options
def open_report(job_id: str, url: str | None, as_json: bool) -> None:
    """Open a job's report in a browser.

    ID may be `latest`. Where no browser is available, its address is printed.
    """
    with open_client(url) as client:
        job = find_job(client, job_id)
        if job.ended and job.state != "succeeded":
            raise failure_of(job)
        if not job.ended:
            raise Failure(
                f"The job is {job.state}: it has no report yet.",
                code="artifacts_not_ready",
                hint=f"Wait until it ends: saccade events --job {job.id} --follow",
            )
        if not job.report:
            raise Failure(
                f"Jobs of {job.workload} have no report.",
                code="no_report",
                hint=f"To get its files: saccade artifacts {job.id} --download DIR",
            )
        address = f"{client.url}{job.report}"
        if CommandSettings().api_key is not None:
            # A browser does not send the key.
            address = client.artifact_url(job.id, job.report.rpartition("/artifacts/")[2])
    opened = open_in_browser(address)
    if as_json:
        print_json({"url": address, "opened": opened})
        return
    print_line(address)
    if not opened:
        print_note("  No browser is available here: open this address yourself.")
