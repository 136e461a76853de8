"""``saccade retry``: run a failed or cancelled job again, or any job with changed parameters as a new one."""

from __future__ import annotations

from typing import Any

import click
from saccade_client import Client, JobView

from cli.connection import open_client, server_options
from cli.jobs.submission import parse_params
from cli.output import print_json, print_line


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="Change a parameter, in a new job.")
@server_options
def retry(job_id: str, pairs: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """Run a failed or cancelled job again.

    Completed stages are kept. With --param, a new job is submitted instead, with the same inputs and the parameters
    that are not named; ID may be any job, also one that has succeeded.
    """
    changed = parse_params(pairs)
    with open_client(url) as client:
        found = _changed_copy(client, client.job(job_id), changed) if changed else client.retry(job_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"Job {found.id} is {found.state}.")


def _changed_copy(client: Client, job: JobView, changed: dict[str, Any]) -> JobView:
    """Submit a job with the inputs of another one, its parameters but for those that are changed, and its metadata."""
    inputs = {name: [file["upload_id"] for file in files] for name, files in job.inputs.items() if files}
    return client.submit(job.workload, inputs, job.params | changed, metadata=job.metadata, retry_of=job.id)
