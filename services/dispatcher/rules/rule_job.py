"""The job that a rule submits for its uploads. Pure: the same check as for a client's request, at the time of use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from contracts.cost_estimate import CostEstimate, Executor, estimate, initial_device, job_estimate
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobInput, JobSubmitted
from contracts.events.rule import JobRule
from contracts.gpu_ladder import Environment, gpu_name
from contracts.job_request import check_durations, check_input, check_names, checked_params, stored_inputs, upload_ids
from contracts.rule import Rule
from contracts.rule_matching import assign, filled_inputs
from contracts.upload import Upload
from contracts.workload import Params, Workload
from modal_workers import catalog
from modal_workers.backends import Backends


@dataclass(frozen=True)
class JobPlacement:
    """Workloads that there are, what their workers have, and where they run."""

    workloads: Mapping[str, Workload]
    backends: Backends = field(default_factory=Backends)
    executor: Executor = "local"
    environment: Environment = "development"

    def workload(self, name: str) -> Workload:
        """Return a workload that is submitted as a job.

        Raises:
            SaccadeError: UNKNOWN_WORKLOAD.
        """
        found = self.workloads.get(name)
        if found is None or found.kind not in ("job", "pipeline"):
            raise SaccadeError(ErrorCode.UNKNOWN_WORKLOAD, f"There is no workload {name!r} that is submitted as a job.")
        return found

    def estimate(self, workload: Workload, gpu: str | None, params: Params) -> CostEstimate:
        """Return the price of a typical run by the workload's declaration.

        Raises:
            SaccadeError: INVALID_PARAMETER, for a GPU that the workload cannot use.
        """

        def estimate_of(work: Workload, gpu: str | None) -> CostEstimate:
            device = initial_device(work, gpu, self.executor, self.environment)
            return estimate(work, device, self.executor, None)

        stages = catalog.required_stages(workload, params) if workload.kind == "pipeline" else []
        return job_estimate(workload, gpu, stages, estimate_of)


def rule_job(
    rule: Rule, uploads: Sequence[Upload], placement: JobPlacement, *, now: datetime, group_id: str | None = None
) -> JobSubmitted:
    """Return the event that submits a rule's job; the uploads are in the order in which they fill the inputs.

    Raises:
        SaccadeError: no such job can be submitted, and why.
    """
    definition = rule.definition
    workload = placement.workload(definition.workload)
    params = checked_params(workload, definition.params)
    filled: dict[str, Any] = params.model_dump(mode="json")
    placement.backends.check_options(workload, filled)
    placement.backends.check(workload, params)
    inputs = _inputs(definition.inputs, workload, uploads)
    check_durations(workload, params, _durations_s(inputs, uploads))
    check_names(workload, params, inputs)
    cost = placement.estimate(workload, definition.gpu, params)
    basis: Literal["history", "spec"] = cost.basis
    return JobSubmitted(
        workload=workload.name,
        workload_version=workload.version,
        **stored_inputs(inputs),
        params=filled,
        priority=definition.priority,
        max_cost_usd=definition.max_cost_usd,
        gpu=None if definition.gpu is None else gpu_name(definition.gpu),
        metadata=definition.metadata,
        webhook_url=definition.webhook_url,
        estimated_usd=cost.usd,
        estimated_from=basis,
        deadline=now + timedelta(seconds=workload.deadline_s),
        rule=JobRule(rule_id=rule.id, upload_ids=tuple(upload.id for upload in uploads), group_id=group_id),
    )


def _inputs(names: Sequence[str], workload: Workload, uploads: Sequence[Upload]) -> dict[str, list[JobInput]]:
    """Return the inputs that the uploads fill.

    Raises:
        SaccadeError: UNKNOWN_INPUT, MISSING_INPUT, INVALID_PARAMETER; as ``check_input``.
    """
    declared = {declaration.name: declaration for declaration in workload.inputs}
    try:
        filled = filled_inputs(names, workload)
    except KeyError as error:
        message = f"{workload.name} has no input {error.args[0]!r}; it takes: {', '.join(declared)}."
        raise SaccadeError(ErrorCode.UNKNOWN_INPUT, message) from None
    if not filled:
        raise SaccadeError(ErrorCode.UNKNOWN_INPUT, f"{workload.name} takes no inputs.")
    assigned = assign(uploads, filled)
    upload_ids(workload, {name: [upload.id for upload in given] for name, given in assigned.items()})
    return {
        name: [check_input(declaration, upload) for upload in assigned.get(name, [])]
        for name, declaration in declared.items()
    }


def _durations_s(inputs: Mapping[str, Sequence[JobInput]], uploads: Sequence[Upload]) -> dict[str, float]:
    """Return the durations of the inputs that are one video."""
    media = {upload.id: upload.media for upload in uploads}
    found: dict[str, float] = {}
    for name, files in inputs.items():
        facts = media.get(files[0].upload_id) if len(files) == 1 else None
        if facts is not None and facts.duration_s is not None:
            found[name] = facts.duration_s
    return found
