"""Modules and programs of the workers, and the workloads that can run with them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.invalid_values import pointer
from contracts.workload import Params, Workload
from modal_workers import catalog

#: For services that somebody started one by one: those who started them all together set GATEWAY_INSTALL_HINT.
DEFAULT_INSTALL_HINT: Final = (
    "Install it where workers run, then restart the dispatcher. "
    "In a clone of the repository: python -m pip install -c constraints.txt '.[{extra}]'"
)


@dataclass(frozen=True)
class Backends:
    """Modules and programs that workers have."""

    #: As the dispatcher reports it; None while no dispatcher has reported.
    reported: frozenset[str] | None = None
    #: What the operator says that workers have besides.
    configured: frozenset[str] = field(default_factory=frozenset)
    #: What to do about what is missing; ``{extra}`` is the extra of pyproject.toml.
    install_hint: str = DEFAULT_INSTALL_HINT

    def has(self, backend: str) -> bool:
        """Return whether workers certainly have a module or a program."""
        return backend in (self.reported or ()) or backend in self.configured

    def missing(self, workload: Workload, params: Params | None = None) -> list[str]:
        """Return what the workload requires and workers do not have, with these parameters or the defaults.

        While no dispatcher has reported, nothing is missing: a job is stored also while the dispatcher is down.
        """
        if self.reported is None:
            return []
        required = {backend for work in _executed(workload, params) for backend in work.requires}
        return sorted(backend for backend in required if not self.has(backend))

    def enable(self, workload: Workload) -> str:
        """Return what an operator does to make the workload available."""
        return self.install_hint.replace("{extra}", workload.extra or workload.name.replace("_", "-"))

    def check(self, workload: Workload, params: Params | None = None) -> None:
        """Reject a workload that no worker can run.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        if missing := self.missing(workload, params):
            raise SaccadeError(
                ErrorCode.BACKEND_NOT_INSTALLED,
                f"{workload.name} needs {_listed(missing)}, which the workers do not have.",
                hint=self.enable(workload),
            )

    def check_options(self, workload: Workload, params: Mapping[str, Any]) -> None:
        """Reject a value of a parameter that needs an optional package; ``params`` includes the defaults.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        for option in workload.backends:
            if params.get(option.parameter) == option.value and not self.has(option.package):
                message = f"{option.parameter}={option.value} needs {option.package}, which the workers do not have."
                where = pointer(("params", option.parameter))
                raise SaccadeError(
                    ErrorCode.BACKEND_NOT_INSTALLED,
                    message,
                    hint=option.hint,
                    errors=[{"detail": message, "pointer": where}],
                )


def _executed(workload: Workload, params: Params | None) -> list[Workload]:
    """Return the workloads whose workers run: of a pipeline, those of the stages that its parameters require."""
    if workload.kind != "pipeline":
        return [workload]
    return [stage for stage, _ in catalog.required_stages(workload, params)]


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
