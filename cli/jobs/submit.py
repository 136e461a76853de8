"""``saccade submit``: files up, a job in, and its progress."""

from __future__ import annotations

import click

from cli.connection import open_client, server_options
from cli.failure import INTERRUPTED
from cli.jobs.follow import follow_job, warnings_of
from cli.jobs.submission import find_workload, parse_params, upload_inputs
from cli.output import print_json, print_line, print_note


@click.command()
@click.argument("workload")
@click.argument("files", nargs=-1)
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A parameter of the workload.")
@click.option("--watch", "watched", is_flag=True, help="Show progress until the job has ended.")
@click.option("--priority", type=int, help="Higher goes first among your own jobs.")
@click.option("--max-cost-usd", type=click.FloatRange(min=0), help="Stop the job at this cost.")
@click.option("--gpu", help="Run on this GPU and no other, A100 for example.")
@click.option("--idempotency-key", help="The same key and request again give the same job.")
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
    """Upload FILES to the inputs of WORKLOAD, in order, and submit a job.

    A file may also be the id of an upload (upl_…). Interrupted large uploads go on where they stopped.
    """
    params = parse_params(pairs)
    with open_client(url) as client:
        inputs = upload_inputs(client, find_workload(client, workload), files, silent=as_json)
        job = client.submit(
            workload,
            inputs,
            params,
            priority=priority,
            max_cost_usd=max_cost_usd,
            gpu=gpu,
            idempotency_key=idempotency_key,
        )
        if as_json:
            print_json(job.model_dump(mode="json"))
        else:
            print_line(f"Job {job.id} is {job.state}.")
        if not watched:
            if not as_json:
                print_note(f"  follow it with: saccade events --job {job.id} --follow")
            return
        try:
            job = follow_job(client, job.id, as_json=as_json)
        except KeyboardInterrupt:
            print_note(f"\nThe job goes on. Stop it with: saccade cancel {job.id}")
            raise SystemExit(INTERRUPTED) from None
        if as_json:
            print_json(job.model_dump(mode="json"))
        else:
            for warning in warnings_of(job):
                print_note(f"  note: {warning}")
            print_line(f"Job {job.id} succeeded. Its files: saccade artifacts {job.id} --download DIR")
