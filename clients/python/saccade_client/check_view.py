"""Answers about jobs that are no job: of a dry run, with the query that asks for it, and counts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from saccade_client.history_views import Shown


class JobCheckView(Shown):
    """A request for a job that the server would accept: parameters with defaults, and the estimated cost."""

    workload: str
    params: dict[str, Any] = Field(default_factory=dict)
    #: ``usd``, ``seconds``, ``device`` and ``basis``: ``history`` for the latest runs, ``spec`` for the declaration.
    estimate: dict[str, Any] = Field(default_factory=dict)
    #: Uploads as the job would use them, by input.
    inputs: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    #: Inputs that are still required.
    missing_inputs: list[str] = Field(default_factory=list)
    #: Devices of the attempts, the first one first, with their prices.
    devices: list[dict[str, Any]] = Field(default_factory=list)
    stages: list[dict[str, Any]] = Field(default_factory=list)
    #: What the job would leave of the budget; None without one.
    budget: dict[str, Any] | None = None
    #: What does not refuse the job and is worth knowing: ``code`` and ``message``.
    warnings: list[dict[str, str]] = Field(default_factory=list)


class JobCountsView(Shown):
    """Numbers of jobs; without ``complete`` not all were looked at, and there may be more."""

    count: int
    by_state: dict[str, int] = Field(default_factory=dict)
    by_workload: dict[str, int] = Field(default_factory=dict)
    complete: bool = True


def dry_run(*, partial: bool) -> dict[str, str]:
    """Return the query of a dry run; with ``partial``, inputs may be left out."""
    return {"dry_run": "true"} | ({"partial": "true"} if partial else {})
