"""Catalog of all workloads: ``WORKLOAD`` in each ``<package>/<worker>/spec.py``. Imports only light modules.

The stages of a pipeline are workers too, one folder deeper: ``<package>/<pipeline>/<stage>/spec.py``.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from contracts.errors import ErrorCode, SaccadeError
from contracts.workload import Params, Workload
from modal_workers.settings import CatalogSettings


@cache
def _found() -> dict[str, tuple[str, Workload]]:
    found: dict[str, tuple[str, Workload]] = {}
    for package in CatalogSettings().packages():
        for folder in importlib.import_module(package).__path__:
            for spec in (*Path(folder).glob("*/spec.py"), *Path(folder).glob("*/*/spec.py")):
                worker = ".".join((package, *spec.parent.relative_to(folder).parts))
                declared = importlib.import_module(f"{worker}.spec").WORKLOAD
                found[declared.name] = worker, declared
    return dict(sorted(found.items()))


@cache
def workloads() -> dict[str, Workload]:
    """Return every workload by name, sorted; ``WORKER_CATALOG`` names further packages."""
    return {name: declared for name, (_, declared) in _found().items()}


def workload(name: str) -> Workload:
    """Return a workload.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD.
    """
    try:
        return workloads()[name]
    except KeyError:
        known = ", ".join(workloads())
        raise SaccadeError(ErrorCode.UNKNOWN_WORKLOAD, f"There is no workload {name!r}; there are: {known}.") from None


def required_stages(pipeline: Workload, params: Params | None = None) -> list[tuple[Workload, int]]:
    """Return the workload and number of shards of each stage that a pipeline's parameters (or defaults) require."""
    chosen = pipeline.params() if params is None else params
    return [(workload(stage.work), stage.shards(chosen)) for stage in pipeline.stages if stage.needed(chosen)]


def worker_package(name: str) -> str:
    """Return the package of a workload's worker, ``modal_workers.lap_compare``.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD.
    """
    return _found()[workload(name).name][0]
