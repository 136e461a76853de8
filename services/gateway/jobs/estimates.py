"""Cost estimates of jobs by the latest runs that the view knows, and the devices that their attempts would run on."""

from __future__ import annotations

from statistics import median

from contracts.cost_estimate import CostEstimate, RunHistory, estimate, initial_device, job_estimate
from contracts.gpu_ladder import gpu_ladder, gpu_name
from contracts.prices import PRICES, Price
from contracts.workload import Params, Workload
from modal_workers import catalog
from modal_workers.deployment import warm_device
from services.gateway.aggregates.run_rows import RunRows
from services.gateway.settings import GatewaySettings


class JobEstimates:
    """Estimates for where this server's workers run."""

    def __init__(self, runs: RunRows, settings: GatewaySettings) -> None:
        """Read durations from ``runs``; executor and first rung of the GPU ladders are in ``settings``."""
        self._runs = runs
        self._executor, self._environment = settings.effective_executor, settings.environment

    def of_job(self, workload: Workload, gpu: str | None = None, params: Params | None = None) -> CostEstimate:
        """Estimate the cost of a job; of a pipeline, of the stages that ``params`` require.

        Raises:
            SaccadeError: INVALID_PARAMETER, for a GPU that the workload cannot use.
        """
        stages = catalog.required_stages(workload, params) if workload.kind == "pipeline" else []
        return job_estimate(workload, gpu, stages, self.of_run)

    def of_run(self, workload: Workload, gpu: str | None = None) -> CostEstimate:
        """Estimate the cost of one run of a workload that is no pipeline.

        Raises:
            SaccadeError: as ``of_job``.
        """
        device = initial_device(workload, gpu, self._executor, self._environment)
        durations_s = self._runs.durations_s(workload.name, workload.version, device)
        history = RunHistory(len(durations_s), median(durations_s)) if durations_s else None
        warm = warm_device(workload, self._environment)
        return estimate(workload, device, self._executor, history, warm=warm)

    def ladder(self, workload: Workload, gpu: str | None = None) -> list[tuple[str, Price]]:
        """Return the devices that attempts use, the first one first, with their prices; ``gpu`` is the only one."""
        if self._executor == "local":
            return [("cpu", PRICES["local"])]
        if not workload.compute.gpus:
            return [("cpu", PRICES["cpu"])]
        devices = (gpu_name(gpu),) if gpu is not None else gpu_ladder(workload.compute.gpus, self._environment)
        return [(device, PRICES[device]) for device in devices]
