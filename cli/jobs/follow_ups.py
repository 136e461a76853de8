"""Jobs that a result leads to, as commands: the same uploads, and rows of the result as parameters."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from saccade_client import Client, JobView


def next_commands(client: Client, job: JobView) -> list[str]:
    """Return the commands of the jobs that a succeeded job's result leads to; empty where there is none."""
    if job.state != "succeeded" or not job.result:
        return []
    workloads = {str(workload["name"]): workload for workload in client.workloads()}
    declared = workloads.get(job.workload, {}).get("follow_ups") or []
    commands = (_command(job, follow_up, workloads.get(str(follow_up["workload"]))) for follow_up in declared)
    return [command for command in commands if command]


def proposed(rows: Sequence[Mapping[str, Any]], count: int, unlikely: str | None) -> list[int]:
    """Return the places of the first rows, those that are unlikely wanted after the others; the console's choice."""
    order = sorted(range(len(rows)), key=lambda place: (bool(unlikely and rows[place].get(unlikely)), place))
    return sorted(order[:count])


def _command(job: JobView, follow_up: Mapping[str, Any], workload: Mapping[str, Any] | None) -> str:
    rows, picks = (job.result or {}).get(follow_up["rows"]) or [], follow_up["picks"]
    if workload is None or len(rows) < len(picks):
        return ""
    params: dict[str, Any] = {}
    for pick, place in zip(picks, proposed(rows, len(picks), follow_up.get("unlikely")), strict=True):
        *parents, last = pick["into"]
        at = params
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = {name: rows[place][field] for name, field in follow_up["fields"].items()}
    files: list[str] = []
    for declared in workload["inputs"]:
        source = follow_up["inputs"].get(declared["name"])
        files += [str(file["upload_id"]) for file in job.inputs.get(source, ()) if file.get("upload_id")]
    given = [f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in params.items()]
    words = [
        "saccade",
        "submit",
        str(follow_up["workload"]),
        *files,
        *(word for each in given for word in ("-p", each)),
    ]
    return shlex.join([*words, "--watch"])
