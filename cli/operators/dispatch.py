"""``saccade status``, ``drain``, ``resume``, ``pause``, ``refold`` and ``lease``: operate the dispatcher."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import click
from nats.aio.client import Client

from cli.failure import Failure
from cli.operators.operator_bus import ask, change, change_options, data_option, run
from cli.output import format_time, print_json, print_line, print_table
from contracts.commands import (
    DISPATCHER,
    Drained,
    Hold,
    JobRefolded,
    LeaseRotated,
    Resumed,
    Status,
    WorkloadPaused,
    WorkloadResumed,
    command,
)

_POLL_S: Final = 1.0


@click.command()
@data_option
def status(data: Path | None, as_json: bool) -> None:
    """Show what is held back, what runs and what waits."""
    found = run(data, _status)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_line(f"{found.running} running, {found.waiting} waiting.")
    if found.drained:
        print_line(_held("Drained: nothing new is launched", found.drained))
    for workload, hold in sorted(found.paused.items()):
        print_line(_held(f"Paused: {workload}", hold))


@click.command()
@click.option("--wait", is_flag=True, help="Return when the last running job has ended.")
@change_options
def drain(*, wait: bool, why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Launch nothing new; running jobs go on.

    The order holds over restarts, until `saccade resume`. New jobs are accepted and stay queued.
    """
    fields = change(why, by)

    async def act(client: Client) -> Drained:
        return await ask(client, command(DISPATCHER, "drain"), Drained, **fields)

    done = run(data, act)
    running = run(data, _until_idle).running if wait else done.running
    if as_json:
        print_json(done.model_dump(mode="json") | {"running": running})
    else:
        print_line(f"Drained: nothing new is launched. {running} still run, {done.waiting} wait.")


@click.command()
@click.argument("workload", required=False)
@change_options
def resume(*, workload: str | None, why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Launch jobs again after drain or pause.

    With WORKLOAD, those of a workload that was paused; without it, after `saccade drain`.
    """
    fields: dict[str, Any] = change(why, by)
    if workload is not None:
        fields["workload"] = workload

    async def act(client: Client) -> Resumed | WorkloadResumed:
        if workload is not None:
            return await ask(client, command(DISPATCHER, "resume_workload"), WorkloadResumed, **fields)
        return await ask(client, command(DISPATCHER, "resume"), Resumed, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
    elif isinstance(done, WorkloadResumed):
        print_line(f"{done.workload} is resumed. {done.waiting} jobs waited.")
    else:
        still = f" Still paused: {', '.join(done.paused)}." if done.paused else ""
        print_line(f"Jobs are launched again. {done.waiting} waited.{still}")


@click.command()
@click.argument("workload")
@change_options
def pause(*, workload: str, why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Keep a workload's jobs queued; running ones go on.

    The order holds over restarts, until `saccade resume WORKLOAD`. The job object shows the reason to the jobs' owners.
    """
    fields: dict[str, Any] = change(why, by) | {"workload": workload}

    async def act(client: Client) -> WorkloadPaused:
        return await ask(client, command(DISPATCHER, "pause_workload"), WorkloadPaused, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        print_line(f"{done.workload} is paused. {done.running} jobs still run, {done.waiting} wait.")


@click.command()
@click.argument("job_id", metavar="JOB")
@change_options
def refold(*, job_id: str, why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Fold a job from its history again.

    The result takes the place of what the dispatcher has in memory; the differences are printed.
    """
    fields: dict[str, Any] = change(why, by) | {"job_id": job_id}

    async def act(client: Client) -> JobRefolded:
        return await ask(client, command(DISPATCHER, "refold_job"), JobRefolded, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    print_line(f"{done.job_id} is {done.state}, attempt {done.attempt}, at event {done.sequence}.")
    if not done.in_memory:
        print_line("It was not in memory.")
    elif not done.differences:
        print_line("The memory was right.")
    else:
        print_table(
            ("FIELD", "MEMORY", "HISTORY"),
            [(found.field, str(found.memory), str(found.history)) for found in done.differences],
        )


@click.group()
def lease() -> None:
    """Hand over to another dispatcher."""


@lease.command()
@change_options
def rotate(why: str, by: str, data: Path | None, as_json: bool) -> None:
    """Hand over from the leading dispatcher to a standby; running jobs go on."""
    fields = change(why, by)

    async def act(client: Client) -> LeaseRotated:
        return await ask(client, command(DISPATCHER, "rotate_lease"), LeaseRotated, **fields)

    done = run(data, act)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        print_line(f"Another dispatcher leads: {done.after} in place of {done.before}.")


async def _status(client: Client) -> Status:
    return await ask(client, command(DISPATCHER, "status"), Status)


async def _until_idle(client: Client) -> Status:
    """Return the status when nothing runs any more.

    Raises:
        Failure: somebody ended the drain.
    """
    while True:
        found = await _status(client)
        if not found.running:
            return found
        if found.drained is None:
            raise Failure("The drain was ended by another command.", code="drain_ended", hint="saccade audit shows it.")
        await asyncio.sleep(_POLL_S)


def _held(what: str, hold: Hold) -> str:
    since = format_time(time.strftime("%Y-%m-%dT%H:%M:%SZ", hold.since.utctimetuple()))
    return f"{what}, since {since}, by {hold.by}: {hold.why}"
