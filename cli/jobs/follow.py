"""Follow a job's events to its end and show its progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from saccade_client import Client, Event, Job, JobView

from cli.command_hints import command_hint
from cli.failure import REFUSED, Failure
from cli.output import print_json, print_note
from cli.progress_bar import ProgressCallback, format_duration, progress_bar

#: The server's view of a job may lag behind its events for so long.
_LAG_S: Final = 30


def follow_job(client: Client, job_id: str, *, as_json: bool = False, silent: bool = False) -> Job:
    """Follow a job's events and return the job at its end; ``as_json`` prints events instead of a progress bar.

    Raises:
        Failure: the job failed or was cancelled.
        ClientError: the server refused.
    """
    stopped = StopsByCancellation()
    with progress_bar("Working", silent=as_json or silent) as update:
        for event in client.events(job_id):
            if as_json:
                print_json(event.envelope)
            elif not (silent or stopped.explains(event.type, event.envelope)):
                _show(event, update)
    # The last event may arrive before the server's view of the job is up to date.
    job = client.job(job_id, wait_s=_LAG_S)
    if job.state != "succeeded":
        raise failure_of(job)
    return job


def failure_of(job: JobView) -> Failure:
    """Return the failure that explains why a job has no result."""
    if job.state == "cancelled":
        return Failure("The job was cancelled.", code="cancelled", hint=f"To run it again: saccade retry {job.id}")
    if job.error is None:
        return Failure(f"The job is {job.state}.", code=job.state, exit_code=REFUSED)
    return Failure(job.error.message, code=job.error.code, hint=hint_of(job), exit_code=REFUSED)


def hint_of(job: JobView) -> str:
    """Return what the user of the command line can do about a job's error; empty without one."""
    if job.error is None:
        return ""
    return command_hint(job.error.code, job.error.hint, {"job_id": job.id, "workload": job.workload})


def warnings_of(job: JobView) -> list[str]:
    """Return the warnings in a job's result."""
    return [str(warning) for warning in (job.result or {}).get("warnings", ())]


class StopsByCancellation:
    """Distinction of workers that were stopped by a cancellation from workers that were lost."""

    def __init__(self) -> None:
        """Start before the first event."""
        self._cancelled: set[str] = set()

    def explains(self, kind: str, envelope: Mapping[str, Any]) -> bool:
        """Take an event of any job; return whether it is the interruption that the job's cancellation caused."""
        subject = str(envelope.get("subject", ""))
        if kind == "job.cancel_requested":
            self._cancelled.add(subject)
        elif kind == "job.retrying":
            self._cancelled.discard(subject)
        return kind == "job.interrupted" and subject in self._cancelled


def _show(event: Event, update: ProgressCallback) -> None:
    data = event.data
    match event.type:
        case "job.progressed":
            update(float(data.get("fraction", 0.0)), progress_text(data))
        case "job.queued":
            update(0.0, "queued")
        case "job.starting" | "job.launched":
            update(0.0, "starting a worker")
        case "job.waiting_for_gpu":
            update(0.0, waiting_text(data))
        case "job.interrupted" if data.get("failure") != "user":
            # A user error ends the job and is printed then.
            print_note(f"Interrupted: {(data.get('error') or {}).get('message', data.get('failure', ''))}")
        case "job.retrying":
            print_note(f"Attempt {data.get('attempt')} starts in {format_duration(float(data.get('delay_s', 0)))}.")
        case "job.cancel_requested":
            print_note("Cancellation requested.")
        case "job.succeeded":
            update(1.0, "done")


def waiting_text(data: dict[str, Any]) -> str:
    """Describe a wait for a GPU: the device, the time so far, the queue, and the next device to try."""
    parts = [f"waiting for a {data.get('device')}", f"{format_duration(float(data.get('waited_s', 0)))} so far"]
    if data.get("backlog") is not None:
        parts.append(f"{data['backlog']} in the queue")
    if data.get("next_device"):
        parts.append(f"then a {data['next_device']}")
    return " · ".join(parts)


def progress_text(data: dict[str, Any]) -> str:
    """Describe a job's progress: stage, message, time left."""
    stage = str(data.get("stage", "")).replace("_", " ")
    parts = [stage, str(data.get("message") or "")]
    eta_s = data.get("eta_s")
    if eta_s is not None and eta_s >= 1:
        parts.append(f"{format_duration(float(eta_s))} left")
    return " · ".join(part for part in parts if part)
