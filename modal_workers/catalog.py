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
def _workers() -> list[str]:
    """Return the package of each worker."""
    return [
        ".".join((package, *spec.parent.relative_to(folder).parts))
        for package in CatalogSettings().packages()
        for folder in importlib.import_module(package).__path__
        for spec in (*Path(folder).glob("*/spec.py"), *Path(folder).glob("*/*/spec.py"))
    ]


def _declared(worker: str) -> Workload:
    declared: Workload = importlib.import_module(f"{worker}.spec").WORKLOAD
    return declared


@cache
def _found() -> dict[str, tuple[str, Workload]]:
    found: dict[str, tuple[str, Workload]] = {}
    for worker in _workers():
        declared = _declared(worker)
        if declared.name in found:
            raise ValueError(f"{found[declared.name][0]} and {worker} declare the same workload, {declared.name!r}")
        found[declared.name] = worker, declared
    return dict(sorted(found.items()))


@cache
def _worker(name: str) -> tuple[str, Workload]:
    """Return a worker, without the import of the others if its folders have its name.

    A worker needs its own specification only; all of them take 0.35 s of CPU time, before each attempt of a job.

    Raises:
        KeyError: there is none of that name.
    """
    for worker in _workers():
        if worker.replace(".", "_").endswith(f"_{name}") and (declared := _declared(worker)).name == name:
            return worker, declared
    return _found()[name]


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
        return _worker(name)[1]
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
    return _worker(workload(name).name)[0]


def forget_found() -> None:
    """Search again at the next use: ``WORKER_CATALOG`` has changed."""
    for found in (_workers, _found, _worker, workloads):
        found.cache_clear()
