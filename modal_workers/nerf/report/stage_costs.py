"""Time and cost of each stage, estimated and actual."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.gpu_ladder import gpu_ladder
from contracts.prices import price_usd_per_s
from contracts.workload import Workload
from modal_workers.nerf.capture.spec import WORKLOAD as CAPTURE
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses.spec import WORKLOAD as POSES
from modal_workers.nerf.rendering.spec import WORKLOAD as RENDERING
from modal_workers.nerf.rendering_nerfstudio.spec import WORKLOAD as RENDERING_NERFSTUDIO
from modal_workers.nerf.report.spec import WORKLOAD as REPORT
from modal_workers.nerf.report.stage_reports import StageReports
from modal_workers.nerf.result import StageFigures
from modal_workers.nerf.training.spec import WORKLOAD as TRAINING
from modal_workers.nerf.training_nerfstudio.spec import WORKLOAD as TRAINING_NERFSTUDIO

_STAGES: Final = ("capture", "poses", "training", "rendering", "exhibit")
_WORKLOADS: Final[dict[str, Workload]] = {
    "capture": CAPTURE,
    "poses": POSES,
    "training": TRAINING,
    "training_nerfstudio": TRAINING_NERFSTUDIO,
    "rendering": RENDERING,
    "rendering_nerfstudio": RENDERING_NERFSTUDIO,
    "exhibit": REPORT,
}


@dataclass(frozen=True)
class StageTotals:
    """Sums over the stages that ran."""

    estimated_s: float
    actual_s: float
    estimated_usd: float
    actual_usd: float


def stage_figures(
    reports: StageReports, report_s: float, paid_usd: Mapping[str, float] | None
) -> tuple[StageFigures, ...]:
    """Return the figures of the stages in order; ``paid_usd`` are their costs, None where unknown.

    The cost of this stage is not known yet: it is computed from its seconds where the others were billed.
    """
    actual: dict[str, tuple[float, str]] = {
        "capture": (reports.capture.checking_s, "cpu"),
        "exhibit": (report_s, "cpu"),
    }
    if reports.poses is not None:
        actual["poses"] = (reports.poses.durations_s["all"], "cpu")
    if reports.training is not None:
        actual["training"] = (reports.training.seconds, reports.training.device)
    if reports.renderings:
        actual["rendering"] = (sum(rendering.seconds for rendering in reports.renderings), reports.renderings[0].device)
    costs_usd = dict(paid_usd or {})
    own_usd = report_s * price_usd_per_s("cpu") if any(costs_usd.values()) else 0.0
    costs_usd["exhibit"] = round(max(costs_usd.get("exhibit", 0.0), own_usd), 6)
    figures = []
    for name in _STAGES:
        stage = f"{name}_nerfstudio"
        stage = stage if reports.params.backend == "nerfstudio" and stage in _WORKLOADS else name
        figures.append(_figures(name, _WORKLOADS[stage], reports.params, actual.get(name), costs_usd.get(stage)))
    return tuple(figures)


def _figures(
    name: str, work: Workload, params: NerfParams, actual: tuple[float, str] | None, paid_usd: float | None
) -> StageFigures:
    jobs = params.batches if name == "rendering" else 1
    first_device = gpu_ladder(work.compute.gpus, "production")[0] if work.compute.gpus else "cpu"
    estimated_s = jobs * work.compute.typical_s
    return StageFigures(
        stage=name,
        jobs=jobs,
        device=actual[1] if actual else first_device,
        estimated_s=estimated_s,
        actual_s=round(actual[0], 2) if actual else None,
        estimated_usd=round(estimated_s * price_usd_per_s(first_device), 6),
        actual_usd=paid_usd if actual else None,
    )


def read_paid_costs(progress: Path | None) -> dict[str, float] | None:
    """Return the cost of each stage from the pipeline's ``progress.json``; None where it is unknown."""
    if progress is None:
        return None
    try:
        status = json.loads(progress.read_text())
        return {str(stage["name"]): float(stage["cost_usd"]) for stage in status["stages"]}
    except (ValueError, KeyError, TypeError):
        return None


def totals(figures: tuple[StageFigures, ...]) -> StageTotals:
    """Return the sums over the stages that ran."""
    ran = [stage for stage in figures if stage.actual_s is not None]
    return StageTotals(
        estimated_s=round(sum(stage.estimated_s for stage in ran), 2),
        actual_s=round(sum(stage.actual_s or 0.0 for stage in ran), 2),
        estimated_usd=round(sum(stage.estimated_usd for stage in ran), 6),
        actual_usd=round(sum(stage.actual_usd or 0.0 for stage in ran), 6),
    )
