"""Representation of dry runs in HTTP answers: estimate, devices, stages, and what does not refuse the job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from contracts.cost_estimate import gpu_for_stage
from contracts.events.job import JobInput
from contracts.workload import Params, Stage, Workload
from modal_workers import catalog
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.jobs.check_schemas import (
    BudgetCheck,
    CheckWarning,
    DeviceCheck,
    EstimatedCost,
    JobCheck,
    StageCheck,
)
from services.gateway.jobs.estimates import JobEstimates
from services.gateway.jobs.reported_holds import ReportedHolds
from services.gateway.jobs.schemas import InputObject
from services.gateway.jobs.submission import CheckedJob, JobRequest
from services.gateway.jobs.url_inputs import has_urls

_NAMES_SHOWN: Final = 3


class JobCheckPresenter:
    """Builds the answers of dry runs."""

    def __init__(self, estimates: JobEstimates, holds: ReportedHolds, backends: ReportedBackends) -> None:
        """``holds`` are operators' orders that jobs wait for; ``backends`` tell whether a dispatcher leads."""
        self._estimates, self._holds, self._backends = estimates, holds, backends

    async def present(self, request: JobRequest, checked: CheckedJob) -> JobCheck:
        """Return the answer to a request that would be accepted."""
        workload = checked.workload
        params = workload.params.model_validate(checked.params)
        stages = [self._stage(workload, stage, request.gpu, params) for stage in workload.stages]
        devices = self._devices(workload, request.gpu)
        if workload.kind == "pipeline":
            of_stages = [device for stage in stages if stage.needed for device in stage.devices or ()]
            devices = list({device.device: device for device in of_stages}.values())
        missing = _missing_inputs(workload, request.inputs)
        answer = JobCheck(
            workload=workload.name,
            workload_version=workload.version,
            params=checked.params,
            inputs={name: [_input(file) for file in files] for name, files in checked.inputs.items() if files},
            missing_inputs=missing,
            estimate=EstimatedCost.model_validate(vars(checked.estimate)),
            devices=devices,
            stages=stages,
            deadline_s=workload.deadline_s,
            max_attempts=workload.max_attempts,
            budget=BudgetCheck.model_validate(vars(checked.budget)) if checked.budget else None,
            warnings=[],
        )
        reported = (await self._backends.known()).reported is not None
        answer.warnings = list(self._warnings(answer, request, checked, has_dispatcher=reported))
        return answer

    def _stage(self, workload: Workload, stage: Stage, gpu: str | None, params: Params) -> StageCheck:
        if workload.kind != "pipeline":
            return StageCheck(
                name=stage.name,
                title=stage.title,
                share=stage.share,
                needed=True,
                workload=None,
                shards=None,
                devices=None,
                estimate=None,
            )
        work = catalog.workload(stage.work)
        gpu = gpu_for_stage(work, gpu)
        needed = stage.needed(params)
        return StageCheck(
            name=stage.name,
            title=stage.title,
            share=stage.share,
            needed=needed,
            workload=work.name,
            shards=stage.shards(params) if needed else 0,
            devices=self._devices(work, gpu),
            estimate=EstimatedCost.model_validate(vars(self._estimates.of_run(work, gpu))),
        )

    def _devices(self, workload: Workload, gpu: str | None) -> list[DeviceCheck]:
        return [
            DeviceCheck(device=device, usd_per_s=price.usd_per_s, confirmed=price.confirmed, read_on=price.read_on)
            for device, price in self._estimates.ladder(workload, gpu)
        ]

    def _warnings(
        self, answer: JobCheck, request: JobRequest, checked: CheckedJob, *, has_dispatcher: bool
    ) -> Iterator[CheckWarning]:
        if answer.missing_inputs:
            text = f"Still required: {', '.join(answer.missing_inputs)}."
            yield CheckWarning(code="inputs_missing", message=text)
        if has_urls(request.inputs):
            text = "Files of URLs are fetched and checked when the job is submitted."
            yield CheckWarning(code="inputs_not_fetched", message=text)
        for names in _same_files(checked.inputs):
            yield CheckWarning(code="same_file", message=f"The same file is given more than once: {names}.")
        if answer.budget and not answer.budget.allowed:
            text = f"The budget does not allow the {answer.budget.reserved_usd:.2f} USD that are reserved for the job."
            yield CheckWarning(code="budget_exceeded", message=text)
        if request.max_cost_usd is not None and request.max_cost_usd < answer.estimate.usd:
            text = f"max_cost_usd is below the estimate of {answer.estimate.usd:.4f} USD: the job is stopped there."
            yield CheckWarning(code="cap_below_estimate", message=text)
        if doubtful := [device.device for device in answer.devices if not device.confirmed]:
            text = f"The price of {', '.join(doubtful)} has no good source; the estimate may be wrong."
            yield CheckWarning(code="price_unconfirmed", message=text)
        if held := self._holds.reason(answer.workload):
            yield CheckWarning(code="held", message=held)
        if not has_dispatcher:
            text = "No dispatcher has reported: the job waits until one runs."
            yield CheckWarning(code="no_dispatcher", message=text)


def _input(file: JobInput) -> InputObject:
    return InputObject.model_validate(file.model_dump(exclude={"key"}))


def _missing_inputs(workload: Workload, inputs: Mapping[str, Any]) -> list[str]:
    """Return the inputs that a request leaves out and a job needs."""
    given = {name: len(files) if isinstance(files, list) else 1 for name, files in inputs.items()}
    missing = [declared.name for declared in workload.inputs if given.get(declared.name, 0) < declared.minimum]
    for alternatives in workload.one_of:
        if not any(given.get(name) for name in alternatives):
            missing += alternatives
    return missing


def _same_files(inputs: Mapping[str, Sequence[JobInput]]) -> Iterator[str]:
    """Yield the file names of each content that is given more than once."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for name, files in inputs.items():
        for file in files:
            by_content[file.sha256].append(f"{file.filename} ({name})")
    repeated = [names for names in by_content.values() if len(names) > 1]
    for names in repeated[:_NAMES_SHOWN]:
        yield ", ".join(names[:_NAMES_SHOWN]) + (" …" if len(names) > _NAMES_SHOWN else "")
