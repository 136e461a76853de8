"""Finds every worker's declaration, ``WORKLOAD`` in ``modal_workers/<worker>/spec.py``; imports nothing heavy."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from contracts.errors import ErrorCode, SaccadeError
from contracts.workload import Workload


@cache
def workloads() -> dict[str, Workload]:
    """Give every workload by its name, sorted."""
    here = Path(__file__).parent
    found = [
        importlib.import_module(f"modal_workers.{spec.parent.name}.spec").WORKLOAD
        for spec in sorted(here.glob("*/spec.py"))
    ]
    return {workload.name: workload for workload in found}


def workload(name: str) -> Workload:
    """Give one workload.

    Raises:
        SaccadeError: UNKNOWN_WORKLOAD.
    """
    try:
        return workloads()[name]
    except KeyError:
        known = ", ".join(workloads())
        raise SaccadeError(ErrorCode.UNKNOWN_WORKLOAD, f"There is no workload {name!r}; there are: {known}.") from None
