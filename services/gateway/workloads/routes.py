"""What this server can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from contracts.prices import ALIASES, PRICES, price_usd_per_s
from contracts.workload import Workload
from kit.auth.principal import Reader
from kit.http.problems import problem_responses
from modal_workers import catalog
from services.gateway.dependencies import gateway_of
from services.gateway.jobs.cost_estimate import CostEstimate
from services.gateway.jobs.submission import refused_options

router = APIRouter(prefix="/v1/workloads", tags=["workloads"])


class InputDeclaration(BaseModel):
    """One input of a workload."""

    name: str
    title: str
    media: Literal["video", "image", "archive"]
    minimum: int
    maximum: int


class DevicePrice(BaseModel):
    """What a second on a device costs, by the dated table."""

    device: str
    usd_per_s: float
    read_on: date
    source: str
    confirmed: bool


class ComputeDeclaration(BaseModel):
    """What a workload runs on. The first device is tried first; a larger one follows when memory runs out."""

    gpus: list[str]
    cpu_cores: float
    memory_bytes: int
    timeout_s: float
    prices: list[DevicePrice]


class EstimateObject(BaseModel):
    """What a run costs, as far as that is known: the median of the latest `runs`, or the worker's declaration."""

    device: str
    seconds: float
    usd: float
    basis: Literal["history", "spec"]
    runs: int


class StageDeclaration(BaseModel):
    """One stage; `share` is its part of the progress figure."""

    name: str
    title: str
    share: float
    compute: ComputeDeclaration | None = Field(description="Of a pipeline: what the stage's own jobs run on.")
    estimate: EstimateObject | None = Field(description="Of a pipeline: what one of the stage's jobs costs.")
    shards: int | None = Field(description="Of a pipeline: its jobs with default parameters; 0 where it is not needed.")


class BackendDeclaration(BaseModel):
    """A parameter value that needs an optional package on the worker."""

    parameter: str
    value: Any
    package: str
    installed: bool


class WorkloadObject(BaseModel):
    """One workload."""

    name: str
    title: str
    description: str
    version: str
    kind: Literal["job", "session", "pipeline"] = Field(
        description="A pipeline is submitted as a job; its stages are jobs of their own, each with its own compute."
    )
    inputs: list[InputDeclaration]
    one_of: list[list[str]] = Field(description="Sets of inputs of which exactly one is given.")
    params_schema: dict[str, Any] = Field(description="JSON Schema of `params`.")
    result_schema: dict[str, Any] = Field(description="JSON Schema of `result`.")
    stages: list[StageDeclaration]
    compute: ComputeDeclaration
    estimate: EstimateObject = Field(description="Of the device that a job begins on.")
    backends: list[BackendDeclaration]


class WorkloadList(BaseModel):
    """Every workload, by name."""

    data: list[WorkloadObject]


def _price(device: str) -> DevicePrice:
    usd_per_s = price_usd_per_s(device)
    price = PRICES[ALIASES.get(device, device)]
    return DevicePrice(
        device=device, usd_per_s=usd_per_s, read_on=price.read_on, source=price.source, confirmed=price.confirmed
    )


def _compute(workload: Workload) -> ComputeDeclaration:
    compute = workload.compute
    return ComputeDeclaration(
        gpus=list(compute.gpus),
        cpu_cores=compute.cpu_cores,
        memory_bytes=compute.memory_bytes,
        timeout_s=compute.timeout_s,
        prices=[_price(device) for device in compute.gpus or ("local", "cpu")],
    )


def _stages(workload: Workload, estimate: Callable[[Workload], CostEstimate]) -> Iterator[StageDeclaration]:
    whole = workload.kind == "pipeline"
    defaults = workload.params() if whole else None
    for stage in workload.stages:
        own = catalog.workload(stage.work) if whole else None
        yield StageDeclaration(
            name=stage.name,
            title=stage.title,
            share=stage.share,
            compute=_compute(own) if own else None,
            estimate=EstimateObject.model_validate(vars(estimate(own))) if own else None,
            shards=(stage.shards(defaults) if stage.needed(defaults) else 0) if own else None,
        )


def _shown(
    workload: Workload, backends: frozenset[str], estimate: Callable[[Workload], CostEstimate]
) -> WorkloadObject | None:
    """Show a workload; None for one that nobody can ask for by itself."""
    if workload.kind == "stage":
        return None
    return WorkloadObject(
        name=workload.name,
        title=workload.title,
        description=workload.description,
        version=workload.version,
        kind=workload.kind,
        inputs=[InputDeclaration.model_validate(vars(one)) for one in workload.inputs],
        one_of=[list(one) for one in workload.one_of],
        params_schema=workload.params.model_json_schema(),
        result_schema=workload.result.model_json_schema(),
        stages=list(_stages(workload, estimate)),
        compute=_compute(workload),
        estimate=EstimateObject.model_validate(vars(estimate(workload))),
        backends=[BackendDeclaration.model_validate(one) for one in refused_options(workload, backends)],
    )


@router.get("", summary="List the workloads with their schemas", responses=problem_responses())
async def list_workloads(request: Request, _: Reader) -> WorkloadList:
    """Say what each takes, gives, runs on and costs by the second."""
    gateway = gateway_of(request)
    backends, estimate = gateway.settings.backends, gateway.jobs.estimate
    found = (_shown(one, backends, estimate) for one in catalog.workloads().values())
    return WorkloadList(data=[one for one in found if one is not None])
