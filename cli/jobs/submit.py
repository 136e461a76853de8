"""``saccade submit``: upload files, submit a job and follow its progress."""

from __future__ import annotations

from typing import Any

import click

from cli.connection import open_client, server_options
from cli.failure import INTERRUPTED
from cli.jobs.follow import follow_job, warnings_of
from cli.jobs.follow_ups import next_commands
from cli.jobs.result import result_lines
from cli.jobs.submission import check_job, find_workload, parse_params, upload_inputs
from cli.output import print_json, print_line, print_note


@click.command()
@click.argument("workload")
@click.argument("files", nargs=-1)
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the workload.")
@click.option("--watch", "watched", is_flag=True, help="Show progress until the job has ended.")
@click.option("--priority", type=int, help="Jobs with a higher priority start first among your own.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="Stop the job at this cost.")
@click.option("--gpu", help="Run only on this GPU, for example A100.")
@click.option("--idempotency-key", help="Repeating it with the same key and files returns the same job.")
@server_options
def submit(
    *,
    workload: str,
    files: tuple[str, ...],
    pairs: tuple[str, ...],
    watched: bool,
    priority: int | None,
    max_cost_usd: float | None,
    gpu: str | None,
    idempotency_key: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Upload files and submit a job.

    FILES become the inputs of WORKLOAD, in order. A file may also be the id of an upload (upl_…). Interrupted uploads
    of large files resume.
    """
    params = parse_params(pairs)
    with open_client(url) as client:
        declared = find_workload(client, workload)
        options: dict[str, Any] = {
            "priority": priority,
            "max_cost_usd": max_cost_usd,
            "gpu": gpu,
            "idempotency_key": idempotency_key,
        }
        check_job(client, declared, files, params, **options)
        inputs = upload_inputs(client, declared, files, silent=as_json, key=idempotency_key)
        job = client.submit(workload, inputs, params, **options)
        if as_json:
            print_json(job.model_dump(mode="json"))
        else:
            print_line(f"Job {job.id} is {job.state}.")
        if not watched:
            if not as_json:
                print_note(f"  to follow it: saccade events --job {job.id} --follow")
            return
        try:
            job = follow_job(client, job.id, as_json=as_json)
        except KeyboardInterrupt:
            print_note(f"\nThe job still runs. To stop it: saccade cancel {job.id}")
            raise SystemExit(INTERRUPTED) from None
        if as_json:
            print_json(job.model_dump(mode="json"))
        else:
            for warning in warnings_of(job):
                print_note(f"  note: {warning}")
            print_line(f"Job {job.id} succeeded.")
            for name, text in result_lines(job, client.url).items():
                if text:
                    print_line(f"  {name:<7} {text}")
            for command in next_commands(client, job):
                print_line(f"  next    {command}")
