"""``saccade upload``: upload files by themselves, for rules or for jobs that are submitted later."""

from __future__ import annotations

import click

from cli.connection import open_client, server_options
from cli.jobs.submission import check_files, upload_file
from cli.output import print_json, print_line
from cli.rules.rule_options import parse_pairs


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--metadata", "-m", "pairs", multiple=True, metavar="KEY=VALUE", help="What rules match on.")
@click.option("--from-job", metavar="JOB", help="The job whose result the files are: its rule does not apply to them.")
@server_options
def upload(
    *, files: tuple[str, ...], pairs: tuple[str, ...], from_job: str | None, url: str | None, as_json: bool
) -> None:
    """Upload files, or have URLs fetched.

    Rules start jobs by them; `saccade submit` takes their ids.
    """
    metadata = parse_pairs(pairs, "--metadata")
    check_files(files)
    with open_client(url) as client:
        for name in files:
            upload_id = upload_file(client, name, silent=as_json, metadata=metadata, from_job=from_job)
            if as_json:
                print_json({"id": upload_id, "file": name, "metadata": metadata})
            else:
                print_line(f"{upload_id}  {name}")
