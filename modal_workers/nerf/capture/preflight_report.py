"""The report of the pre-flight, from what was sent and what was found in it. Pure."""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.capture.checks.findings import Findings, scales
from modal_workers.nerf.capture.checks.verdict import judge, orbit_of
from modal_workers.nerf.capture.cost_estimate import estimate_later_stages
from modal_workers.nerf.capture.inputs.sources import CaptureInput
from modal_workers.nerf.capture.spec import CaptureReport, Verdict
from modal_workers.nerf.capture.working_copies import WorkingCopies
from modal_workers.nerf.params import NerfParams

_SHOWN_REASONS = 3


def build_report(
    params: NerfParams, intake: CaptureInput, made: WorkingCopies, found: Findings, *, checking_s: float
) -> CaptureReport:
    """Judge the findings and say so with all figures."""
    verdict = judge(found, made.skipped)
    goes_on = not params.preflight_only and (verdict.accept != "refused" or params.ignore_verdict)
    widths = [shot.look.blur_px for shot in found.shots if shot.look.blur_px is not None]
    points = [len(shot.look.points_px) for shot in found.shots]
    later = estimate_later_stages(params)
    return CaptureReport(
        source=intake.source,
        ordered=intake.ordered,
        sent=len(intake.photos),
        photos=len(made.photos),
        masks=made.masks,
        skipped=made.skipped,
        sharp=len(found.shots) - len(found.blurred),
        blur_px=round(statistics.median(widths), 3) if widths else None,
        features=round(statistics.median(points)) if points else 0,
        matched_pairs=sum(pair.tied for pair in found.pairs),
        pieces=[len(piece) for piece in found.components],
        orbit=orbit_of(found),
        verdict=verdict,
        goes_on=goes_on,
        later_stages=later,
        spared_usd=0.0 if goes_on else later.usd,
        checking_s=round(checking_s, 2),
    )


def capture_index(report: CaptureReport, made: WorkingCopies, found: Findings) -> dict[str, Any]:
    """Give what ``capture.json`` says to the next stages."""
    ties = [0] * len(made.photos)
    for pair in found.pairs:
        ties[pair.first] += pair.tied
        ties[pair.second] += pair.tied
    flags = {
        "blurred": found.blurred,
        "textureless": found.plain,
        "too_dark": found.black,
        "too_bright": found.burnt,
        "repeated": found.repetitions,
        "apart": [one for piece in found.components[1:] for one in piece],
    }
    photos = [
        {
            **asdict(photo),
            "blur_px": shot.look.blur_px,
            "sharpness": round(1 / (1 + (shot.look.blur_px or 0.0)), 4),
            "features": len(shot.look.points_px),
            "luminance": round(shot.look.luminance, 2),
            "matched_photos": ties[number],
            "flags": [flag for flag, members in flags.items() if number in members],
        }
        for number, (photo, shot) in enumerate(zip(made.photos, found.shots, strict=True))
    ]
    return {
        "photos": photos,
        "pairs": [[pair.first, pair.second, pair.agreeing] for pair in found.pairs if pair.tied],
        "ordered": report.ordered,
        "skipped": [one.model_dump() for one in report.skipped],
        "verdict": report.verdict.model_dump(mode="json"),
        "scales": scales(),
        "report": report.model_dump(mode="json"),
    }


def refusal_error(verdict: Verdict) -> SaccadeError:
    """Make the error of a refused capture: what is wrong, and what to shoot again."""
    against = [reason for reason in verdict.reasons if reason.severity == "refusal"]
    message = " ".join(f"{reason.message} ({reason.code})" for reason in against[:_SHOWN_REASONS])
    fixes = dict.fromkeys(reason.fix for reason in against[:_SHOWN_REASONS])
    return SaccadeError(ErrorCode.CAPTURE_REFUSED, message, hint=" ".join(fixes))
