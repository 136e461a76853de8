"""JSON bodies of the workload routes."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, Field


class InputDeclaration(BaseModel):
    """One input of a workload."""

    name: str
    title: str
    media: Literal["video", "image", "archive"]
    minimum: int
    maximum: int


class DevicePrice(BaseModel):
    """Price of a second on a device, from the dated price table."""

    device: str
    usd_per_s: float
    read_on: date
    source: str
    confirmed: bool


class ComputeDeclaration(BaseModel):
    """Compute of a workload. The first GPU is tried first; a larger one follows if memory is exhausted."""

    gpus: list[str]
    cpu_cores: float
    memory_bytes: int
    timeout_s: float
    prices: list[DevicePrice]


class EstimateObject(BaseModel):
    """Estimated cost of a run: the median of the latest `runs`, or the worker's declaration."""

    device: str
    seconds: float
    usd: float
    basis: Literal["history", "spec"]
    runs: int
    warm_usd_per_hour: float = Field(
        default=0.0, description="Price of the container that is kept warm for such runs; not part of `usd`."
    )


class StageDeclaration(BaseModel):
    """One stage; `share` is its part of the progress figure."""

    name: str
    title: str
    share: float
    compute: ComputeDeclaration | None = Field(description="Of a pipeline: compute of the stage's own jobs.")
    estimate: EstimateObject | None = Field(description="Of a pipeline: cost of one of the stage's jobs.")
    shards: int | None = Field(description="Of a pipeline: its jobs with default parameters; 0 if it is not required.")


class BackendDeclaration(BaseModel):
    """A parameter value that needs an optional package on the worker."""

    parameter: str
    value: Any
    package: str
    installed: bool


class PickDeclaration(BaseModel):
    """One row that a person chooses; `into` is the path of an object inside of the other workload's parameters."""

    title: str
    into: list[str]


class FollowUpDeclaration(BaseModel):
    """A job of another workload that a result leads to: the same uploads, and rows of the result as parameters."""

    workload: str
    title: str
    rows: str = Field(description="Name of a list of objects in the result.")
    picks: list[PickDeclaration]
    fields: dict[str, str] = Field(description="Members of each pick's object, and the members of a row they get.")
    inputs: dict[str, str] = Field(description="Inputs of the other workload, and the inputs of this one they get.")
    columns: dict[str, str] = Field(description="Members of a row that are shown, with their titles.")
    unlikely: str = Field(description="Member that is true for rows that few want; empty: none.")


class WorkloadObject(BaseModel):
    """One workload."""

    name: str
    title: str
    description: str
    version: str
    kind: Literal["job", "session", "pipeline"] = Field(
        description="A pipeline is submitted as a job; its stages are jobs of their own, each with its own compute."
    )
    available: bool = Field(description="Whether the workers have what it needs, with default parameters.")
    missing: list[str] = Field(description="Modules and programs that the workers lack.")
    enable: str | None = Field(description="What the operator does to make it available; null if it is.")
    inputs: list[InputDeclaration]
    one_of: list[list[str]] = Field(description="Sets of inputs of which exactly one is given.")
    params_schema: dict[str, Any] = Field(description="JSON Schema of `params`.")
    result_schema: dict[str, Any] = Field(description="JSON Schema of `result`.")
    stages: list[StageDeclaration]
    compute: ComputeDeclaration
    estimate: EstimateObject = Field(description="For the device of the first attempt.")
    backends: list[BackendDeclaration]
    follow_ups: list[FollowUpDeclaration] = Field(description="Jobs that a result leads to.")


class WorkloadList(BaseModel):
    """All workloads, sorted by name."""

    data: list[WorkloadObject]
