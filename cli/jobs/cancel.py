"""``saccade cancel``: request the cancellation of a job."""

from __future__ import annotations

import click

from cli.connection import open_client, server_options
from cli.output import print_json, print_line


@click.command()
@click.argument("job_id", metavar="ID")
@server_options
def cancel(job_id: str, url: str | None, as_json: bool) -> None:
    """Cancel a job."""
    with open_client(url) as client:
        found = client.cancel(job_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"Cancellation of job {found.id} is requested.")
