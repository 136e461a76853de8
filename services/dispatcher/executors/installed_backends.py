"""Modules and programs that the workers have installed, of all that the workloads name."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import PurePath

from contracts.workload import Workload
from services.dispatcher.settings import DispatcherSettings


def installed_backends(settings: DispatcherSettings, workloads: Iterable[Workload]) -> list[str]:
    """Return the modules and programs that the workers have, of all that the workloads name; sorted.

    Local workers run in this Python. On Modal every worker has an image of its own with all that it requires, and no
    other packages.
    """
    declared = list(workloads)
    required = {backend for workload in declared for backend in workload.requires}
    if settings.runs_on_modal:
        return sorted(required)
    optional = {backend.package for workload in declared for backend in workload.backends}
    importlib.invalidate_caches()
    return sorted(backend for backend in required | optional if is_installed(backend))


def is_installed(backend: str) -> bool:
    """Return whether a top-level module can be imported, or a program at an absolute path executed; imports nothing."""
    if PurePath(backend).is_absolute():
        return os.access(backend, os.X_OK)
    return importlib.util.find_spec(backend) is not None
