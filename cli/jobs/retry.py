"""``saccade retry``: run a failed or cancelled job again."""

from __future__ import annotations

import click

from cli.connection import open_client, server_options
from cli.output import print_json, print_line


@click.command()
@click.argument("job_id", metavar="ID")
@server_options
def retry(job_id: str, url: str | None, as_json: bool) -> None:
    """Run a failed or cancelled job again.

    Completed stages are kept.
    """
    with open_client(url) as client:
        found = client.retry(job_id)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_line(f"Job {found.id} is {found.state}.")
