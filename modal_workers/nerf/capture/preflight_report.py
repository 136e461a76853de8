"""The pre-flight report, from the input and its findings. Pure."""

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
    params: NerfParams, intake: CaptureInput, copies: WorkingCopies, findings: Findings, *, checking_s: float
) -> CaptureReport:
    """Return the report with verdict and all figures."""
    verdict = judge(findings, copies.skipped)
    continues = not params.preflight_only and (verdict.accept != "refused" or params.ignore_verdict)
    widths = [photo.quality.blur_px for photo in findings.photos if photo.quality.blur_px is not None]
    points = [len(photo.quality.points_px) for photo in findings.photos]
    later = estimate_later_stages(params)
    return CaptureReport(
        source=intake.source,
        ordered=intake.ordered,
        sent=len(intake.photos),
        photos=len(copies.photos),
        masks=copies.masks,
        skipped=copies.skipped,
        sharp=len(findings.photos) - len(findings.blurred),
        blur_px=round(statistics.median(widths), 3) if widths else None,
        features=round(statistics.median(points)) if points else 0,
        matched_pairs=sum(pair.tied for pair in findings.pairs),
        pieces=[len(piece) for piece in findings.components],
        orbit=orbit_of(findings),
        verdict=verdict,
        goes_on=continues,
        later_stages=later,
        spared_usd=0.0 if continues else later.usd,
        checking_s=round(checking_s, 2),
    )


def capture_index(report: CaptureReport, copies: WorkingCopies, findings: Findings) -> dict[str, Any]:
    """Return the content of ``capture.json`` for the later stages."""
    links = [0] * len(copies.photos)
    for pair in findings.pairs:
        links[pair.first] += pair.tied
        links[pair.second] += pair.tied
    flags = {
        "blurred": findings.blurred,
        "textureless": findings.plain,
        "too_dark": findings.black,
        "too_bright": findings.burnt,
        "repeated": findings.repetitions,
        "apart": [number for component in findings.components[1:] for number in component],
    }
    photos = [
        {
            **asdict(photo),
            "blur_px": measured.quality.blur_px,
            "sharpness": round(1 / (1 + (measured.quality.blur_px or 0.0)), 4),
            "features": len(measured.quality.points_px),
            "luminance": round(measured.quality.luminance, 2),
            "matched_photos": links[number],
            "flags": [flag for flag, members in flags.items() if number in members],
        }
        for number, (photo, measured) in enumerate(zip(copies.photos, findings.photos, strict=True))
    ]
    return {
        "photos": photos,
        "pairs": [[pair.first, pair.second, pair.agreeing] for pair in findings.pairs if pair.tied],
        "ordered": report.ordered,
        "skipped": [skipped.model_dump() for skipped in report.skipped],
        "verdict": report.verdict.model_dump(mode="json"),
        "scales": scales(),
        "report": report.model_dump(mode="json"),
    }


def refusal_error(verdict: Verdict) -> SaccadeError:
    """Return the error of a refused capture: what is wrong, and what to shoot again."""
    refusals = [reason for reason in verdict.reasons if reason.severity == "refusal"]
    message = " ".join(f"{reason.message} ({reason.code})" for reason in refusals[:_SHOWN_REASONS])
    fixes = dict.fromkeys(reason.fix for reason in refusals[:_SHOWN_REASONS])
    return SaccadeError(ErrorCode.CAPTURE_REFUSED, message, hint=" ".join(fixes))
