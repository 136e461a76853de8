"""What a job will cost, before it runs: from what such jobs took lately, else from the worker's declaration. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.gpu_ladder import Environment, gpu_ladder, gpu_name
from contracts.prices import price_usd_per_s
from contracts.workload import Workload

Executor = Literal["local", "modal"]


@dataclass(frozen=True)
class RunHistory:
    """What the latest successful runs of a kind took."""

    count: int
    median_s: float


@dataclass(frozen=True)
class CostEstimate:
    """An estimate and what it rests on."""

    device: str
    seconds: float
    usd: float
    basis: Literal["history", "spec"]
    runs: int


def device_of(workload: Workload, gpu: str | None, executor: Executor, environment: Environment) -> str:
    """Name the device that a job begins on: the user's, the first rung of the ladder, or the CPU.

    Raises:
        SaccadeError: INVALID_PARAMETER, for a GPU that there is not, or that the workload has no use for.
    """
    if gpu is not None:
        gpu = gpu_name(gpu)
        if not workload.compute.gpus:
            message = f"{workload.name} runs on a CPU and has no use for a GPU."
            where = [{"detail": message, "pointer": "#/gpu"}]
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Leave gpu out.", errors=where)
    if executor == "local":
        return "cpu"
    return gpu or (gpu_ladder(workload.compute.gpus, environment)[0] if workload.compute.gpus else "cpu")


def takes_gpu(workload: Workload, gpu: str | None) -> str | None:
    """Give the GPU that was chosen for a pipeline to one of its stages, if that has a use for one."""
    return gpu if workload.compute.gpus else None


def whole(stages: Sequence[tuple[int, CostEstimate]]) -> CostEstimate:
    """Add up the estimates of a pipeline's stages, each with its number of shards; seconds are billed ones."""
    ones = [one for _, one in stages]
    return CostEstimate(
        device=", ".join(dict.fromkeys(one.device for one in ones)),
        seconds=round(sum(shards * one.seconds for shards, one in stages), 1),
        usd=round(sum(shards * one.usd for shards, one in stages), 6),
        basis="history" if all(one.basis == "history" for one in ones) else "spec",
        runs=min((one.runs for one in ones), default=0),
    )


def estimate(workload: Workload, device: str, executor: Executor, runs: RunHistory | None) -> CostEstimate:
    """Price the seconds that a run is likely to take; on the operator's own machine they cost nothing."""
    seconds = runs.median_s if runs else workload.compute.typical_s
    usd = seconds * price_usd_per_s("local" if executor == "local" else device)
    return CostEstimate(
        device, round(seconds, 1), round(usd, 6), "history" if runs else "spec", runs.count if runs else 0
    )
