"""What each stage took against what it was thought to take."""

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
from modal_workers.nerf.report.spec import WORKLOAD as EXHIBIT
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
    "exhibit": EXHIBIT,
}


@dataclass(frozen=True)
class StageTotals:
    """Of the stages that were run."""

    estimated_s: float
    actual_s: float
    estimated_usd: float
    actual_usd: float


def stage_figures(
    story: StageReports, exhibit_s: float, paid_usd: Mapping[str, float] | None
) -> tuple[StageFigures, ...]:
    """Give the stages in order; ``paid_usd`` is what the pipeline's ledger says of each, None where there is none.

    This stage's own cost is not in the ledger yet: it is reckoned from its seconds where the others' were paid for.
    """
    actual: dict[str, tuple[float, str]] = {"capture": (story.capture.checking_s, "cpu"), "exhibit": (exhibit_s, "cpu")}
    if story.poses is not None:
        actual["poses"] = (story.poses.durations_s["all"], "cpu")
    if story.training is not None:
        actual["training"] = (story.training.seconds, story.training.device)
    if story.renderings:
        actual["rendering"] = (sum(one.seconds for one in story.renderings), story.renderings[0].device)
    read_paid_costs = dict(paid_usd or {})
    own_usd = exhibit_s * price_usd_per_s("cpu") if any(read_paid_costs.values()) else 0.0
    read_paid_costs["exhibit"] = round(max(read_paid_costs.get("exhibit", 0.0), own_usd), 6)
    figures = []
    for name in _STAGES:
        stage = f"{name}_nerfstudio"
        stage = stage if story.params.backend == "nerfstudio" and stage in _WORKLOADS else name
        figures.append(_figures(name, _WORKLOADS[stage], story.params, actual.get(name), read_paid_costs.get(stage)))
    return tuple(figures)


def _figures(
    name: str, work: Workload, params: NerfParams, actual: tuple[float, str] | None, paid_usd: float | None
) -> StageFigures:
    jobs = params.batches if name == "rendering" else 1
    thought = gpu_ladder(work.compute.gpus, "production")[0] if work.compute.gpus else "cpu"
    estimated_s = jobs * work.compute.typical_s
    return StageFigures(
        stage=name,
        jobs=jobs,
        device=actual[1] if actual else thought,
        estimated_s=estimated_s,
        actual_s=round(actual[0], 2) if actual else None,
        estimated_usd=round(estimated_s * price_usd_per_s(thought), 6),
        actual_usd=paid_usd if actual else None,
    )


def read_paid_costs(progress: Path | None) -> dict[str, float] | None:
    """Read what each stage has cost from the pipeline's ``progress.json``; None where it cannot be told."""
    if progress is None:
        return None
    try:
        told = json.loads(progress.read_text())
        return {str(stage["name"]): float(stage["cost_usd"]) for stage in told["stages"]}
    except (ValueError, KeyError, TypeError):
        return None


def totals(figures: tuple[StageFigures, ...]) -> StageTotals:
    """Add up what was run."""
    run = [one for one in figures if one.actual_s is not None]
    return StageTotals(
        estimated_s=round(sum(one.estimated_s for one in run), 2),
        actual_s=round(sum(one.actual_s or 0.0 for one in run), 2),
        estimated_usd=round(sum(one.estimated_usd for one in run), 6),
        actual_usd=round(sum(one.actual_usd or 0.0 for one in run), 6),
    )
