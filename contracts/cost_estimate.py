"""Cost estimate of a job before it runs: from the latest runs, else from the worker's declaration. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.gpu_ladder import Environment, gpu_ladder, gpu_name
from contracts.prices import price_usd_per_s
from contracts.workload import Workload

Executor = Literal["local", "modal"]


@dataclass(frozen=True)
class RunHistory:
    """Number and median duration of the latest successful runs of a workload on a device."""

    count: int
    median_s: float


@dataclass(frozen=True)
class CostEstimate:
    """Estimated billed seconds and cost on a device, and the data that they are based on."""

    device: str
    seconds: float
    usd: float
    basis: Literal["history", "spec"]
    runs: int
    #: Price of the containers that are kept warm for such jobs, whether one runs or not; not part of ``usd``.
    warm_usd_per_hour: float = 0.0


def initial_device(workload: Workload, gpu: str | None, executor: Executor, environment: Environment) -> str:
    """Return the device of the first attempt: the requested GPU, the first rung of the GPU ladder, or the CPU.

    Raises:
        SaccadeError: INVALID_PARAMETER, for an unknown GPU or one that the workload cannot use.
    """
    if gpu is not None:
        gpu = gpu_name(gpu)
        if not workload.compute.gpus:
            message = f"{workload.name} runs on a CPU and does not use a GPU."
            where = [{"detail": message, "pointer": "#/gpu"}]
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Leave gpu out.", errors=where)
    if executor == "local":
        return "cpu"
    return gpu or (gpu_ladder(workload.compute.gpus, environment)[0] if workload.compute.gpus else "cpu")


def gpu_for_stage(workload: Workload, gpu: str | None) -> str | None:
    """Return the GPU requested for a pipeline if this stage uses GPUs, else None."""
    return gpu if workload.compute.gpus else None


def job_estimate(
    workload: Workload,
    gpu: str | None,
    stages: Sequence[tuple[Workload, int]],
    estimate_of: Callable[[Workload, str | None], CostEstimate],
) -> CostEstimate:
    """Return the estimate of a job; of a pipeline, the sum over the ``stages`` that its parameters require.

    Raises:
        SaccadeError: INVALID_PARAMETER, for a GPU that the workload cannot use.
    """
    if stages and (gpu is None or any(stage.compute.gpus for stage, _ in stages)):
        return pipeline_estimate([(shards, estimate_of(stage, gpu_for_stage(stage, gpu))) for stage, shards in stages])
    return estimate_of(workload, gpu)


def pipeline_estimate(stages: Sequence[tuple[int, CostEstimate]]) -> CostEstimate:
    """Return the sum over a pipeline's stages, each given as its number of shards and the estimate of one shard."""
    estimates = [shard_estimate for _, shard_estimate in stages]
    return CostEstimate(
        device=", ".join(dict.fromkeys(shard_estimate.device for shard_estimate in estimates)),
        seconds=round(sum(shards * shard_estimate.seconds for shards, shard_estimate in stages), 1),
        usd=round(sum(shards * shard_estimate.usd for shards, shard_estimate in stages), 6),
        basis="history" if all(shard_estimate.basis == "history" for shard_estimate in estimates) else "spec",
        runs=min((shard_estimate.runs for shard_estimate in estimates), default=0),
        warm_usd_per_hour=round(sum(shard_estimate.warm_usd_per_hour for shard_estimate in estimates), 4),
    )


def estimate(
    workload: Workload, device: str, executor: Executor, history: RunHistory | None, *, warm: str | None = None
) -> CostEstimate:
    """Return the price of a typical run; runs on the operator's own machine are free.

    ``warm`` is the device on which a container is kept warm for such runs.
    """
    seconds = history.median_s if history else workload.compute.typical_s
    usd = seconds * price_usd_per_s("local" if executor == "local" else device)
    return CostEstimate(
        device=device,
        seconds=round(seconds, 1),
        usd=round(usd, 6),
        basis="history" if history else "spec",
        runs=history.count if history else 0,
        warm_usd_per_hour=0.0 if warm is None or executor == "local" else round(3600 * price_usd_per_s(warm), 4),
    )
