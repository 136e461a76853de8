"""Placement of the jobs of rules, by the dispatcher's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from contracts.workload import Workload
from modal_workers.backends import Backends
from modal_workers.settings import DeploymentSettings
from services.dispatcher.rules.rule_job import JobPlacement
from services.dispatcher.settings import DispatcherSettings


def job_placement(
    settings: DispatcherSettings, workloads: Mapping[str, Workload], backends: Sequence[str] | None
) -> JobPlacement:
    """Return where jobs run, with the modules and programs that the workers have (None: all)."""
    return JobPlacement(
        workloads,
        Backends(None if backends is None else frozenset(backends)),
        "modal" if settings.runs_on_modal else "local",
        DeploymentSettings().environment,
    )
