"""JSON bodies of dry runs: what a job, or a live session, would cost and where it would run."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from pydantic import BaseModel, Field

from services.gateway.jobs.schemas import InputObject

WarningCode = Literal[
    "inputs_missing",
    "inputs_not_fetched",
    "same_file",
    "budget_exceeded",
    "cap_below_estimate",
    "price_unconfirmed",
    "held",
    "no_dispatcher",
]


class EstimatedCost(BaseModel):
    """Estimated cost of a job on the device of its first attempt."""

    device: str
    seconds: float
    usd: float
    basis: Literal["history", "spec"] = Field(description="Latest runs of such jobs, or the declaration.")
    runs: int = Field(default=0, description="Number of these latest runs.")
    warm_usd_per_hour: float = Field(
        default=0.0, description="Price of the container that is kept warm for such jobs; not part of `usd`."
    )


class BudgetCheck(BaseModel):
    """Remainder of the budget with the job, if it were launched now; null without a limit."""

    allowed: bool = Field(description="Otherwise the job is refused with `budget_exceeded`.")
    reserved_usd: float = Field(description="Amount that is reserved for the job until it ends.")
    day_remaining_usd: float | None
    month_remaining_usd: float | None


class DeviceCheck(BaseModel):
    """A device that attempts use here, with its price."""

    device: str
    usd_per_s: float
    confirmed: bool = Field(description="Whether the price has a good source.")
    read_on: date


class StageCheck(BaseModel):
    """One stage of the job."""

    name: str
    title: str
    share: float = Field(description="Its part of the progress figure.")
    needed: bool = Field(description="Whether these parameters require it.")
    workload: str | None = Field(description="Of a pipeline: workload of the stage's jobs.")
    shards: int | None = Field(description="Of a pipeline: its jobs with these parameters; 0 if it is not needed.")
    devices: list[DeviceCheck] | None = Field(description="Of a pipeline: devices of the stage's jobs, in order.")
    estimate: EstimatedCost | None = Field(description="Of a pipeline: of one of the stage's jobs.")


class CheckWarning(BaseModel):
    """Something that does not refuse the job and that its owner should know."""

    code: WarningCode
    message: str


class JobCheck(BaseModel):
    """Answer of a dry run: the request would be accepted, with these parameters."""

    workload: str
    workload_version: str
    params: dict[str, Any] = Field(description="With defaults.")
    inputs: dict[str, list[InputObject]] = Field(description="Uploads as the job would use them.")
    missing_inputs: list[str] = Field(
        description="With `partial`: inputs that are still required; of alternatives, each is named."
    )
    estimate: EstimatedCost
    devices: list[DeviceCheck] = Field(
        description="GPU ladder: attempts start on the first device; the next one follows when it is not available or "
        "has too little memory. Of a pipeline: of its stages, without repetitions."
    )
    stages: list[StageCheck]
    deadline_s: float = Field(description="The job fails if it has not ended this long after its submission.")
    max_attempts: int
    budget: BudgetCheck | None = Field(default=None, description="Null if there is none, or workers cost nothing.")
    warnings: list[CheckWarning]
