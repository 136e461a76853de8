"""Import of a worker's modules in its container, before the new version gets calls."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from modal_workers import catalog

#: Key of the argument that asks for a check instead of a run; its value is the workload's name.
CHECK: Final = "check_imports"
#: What every worker needs, whatever it does.
_RUNTIME: Final = ("modal_workers.runtime.worker_process", "modal_workers.runtime.attempt")


def wanted(argument: Mapping[str, Any]) -> str | None:
    """Return the workload whose modules are to be imported; None if the argument is that of a run."""
    name = argument.get(CHECK)
    return name if isinstance(name, str) else None


def run(name: str) -> dict[str, Any]:
    """Import the modules of a worker and return their names.

    Raises:
        Exception: what a module raises.
    """
    modules = [*_RUNTIME, catalog.workload(name).job.partition(":")[0]]
    for module in modules:
        importlib.import_module(module)
    return {"imported": modules}
