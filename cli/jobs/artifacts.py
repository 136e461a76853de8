"""``saccade artifacts``: list or download a job's artifacts."""

from __future__ import annotations

from pathlib import Path

import click

from cli.connection import open_client, server_options
from cli.jobs.download import download_artifacts
from cli.jobs.latest import find_job
from cli.output import print_json, print_line, print_table
from cli.progress_bar import format_size


@click.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--download", type=click.Path(file_okay=False, path_type=Path), help="Download the files into this folder."
)
@click.option("--name", "names", multiple=True, help="Only this file (with --download).")
@server_options
def artifacts(job_id: str, download: Path | None, names: tuple[str, ...], url: str | None, as_json: bool) -> None:
    """List or download a job's files.

    ID may be `latest`. Each downloaded file is checked against its SHA-256.
    """
    with open_client(url) as client:
        job_id = find_job(client, job_id).id
        if download is None:
            manifest = client.artifacts(job_id)
            if as_json:
                print_json(manifest.model_dump(mode="json"))
            else:
                rows = [
                    (file.name, format_size(file.bytes), file.media_type, file.title) for file in manifest.artifacts
                ]
                print_table(("NAME", "SIZE", "TYPE", "TITLE"), rows)
            return
        paths = download_artifacts(client, job_id, download, names=names or None, silent=as_json)
    for path in paths:
        if as_json:
            print_json({"path": str(path.absolute())})
        else:
            print_line(str(path))
