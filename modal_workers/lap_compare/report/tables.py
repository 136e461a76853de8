"""Figures of a comparison for other programs: metrics.json with units and provenance, delta.csv."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison, Opportunity, Sector
from modal_workers.lap_compare.headline import is_clear

#: Columns of delta.csv with their units; the two flow columns exist only if flow was measured.
DELTA_UNITS: Final = {
    "time_a_s": "s, clip A's own clock from its first frame",
    "time_b_s": "s, clip B's own clock from its first frame",
    "lap_s": "s, from the start of the common stretch",
    "delta_s": "s, above zero B is behind A",
    "error_s": "s, half-width of the 95 % band",
    "relative_speed": "1, speed of B over speed of A",
    "confidence": "1, from 0 to 1",
}
FLOW_UNITS: Final = {
    "flow_a_uncalibrated": "picture widths per second, not a speed",
    "flow_b_uncalibrated": "picture widths per second, not a speed",
}
METRICS_VERSION: Final = 1


def metrics(comparison: Comparison) -> dict[str, Any]:
    """Return every figure as JSON values; the suffix of a name is its unit, ``units`` explains the rest."""
    alignment = comparison.alignment
    return {
        "version": METRICS_VERSION,
        "headline": {
            "sentence": wording.headline(comparison),
            "delta_s": _number(wording.total_delta_s(comparison)),
            "error_s": _number(wording.total_error_s(comparison)),
            "faster": _faster(comparison),
            "time_a_s": _number(comparison.total_a_s),
            "time_b_s": _number(comparison.total_b_s),
            "provenance": _span(
                comparison,
                float(alignment.time_a_s[0]),
                float(alignment.time_a_s[-1]),
                float(alignment.time_b_s[0]),
                float(alignment.time_b_s[-1]),
            ),
        },
        "confidence": {
            "value": _number(comparison.confidence),
            "grade": wording.grade(comparison.confidence),
            "sentence": wording.confidence_sentence(comparison),
            "path_cost": _number(alignment.path_cost),
            "overlap": _number(alignment.overlap),
            "piecewise_s": _number(alignment.piecewise_s),
            "mount_corrected": alignment.mount_corrected,
            "mount_shift": _number(alignment.mount_shift),
        },
        "clips": {"a": _clip(comparison.clip_a), "b": _clip(comparison.clip_b)},
        "sectors": [_sector(comparison, sector) for sector in comparison.sectors],
        "opportunities": [_opportunity(comparison, opportunity) for opportunity in comparison.opportunities],
        "samples": len(alignment.time_a_s),
        "flow": "uncalibrated" if comparison.flow_a is not None else None,
        "warnings": list(comparison.warnings),
        "advice": [asdict(advice) for advice in comparison.advice],
        "units": {
            "*_s": "seconds",
            "*_hz": "frames a second",
            "*_px": "pixels, as shown",
            "delta_s": "B's time less A's: above zero B is behind A",
            "error_s": "half-width of the 95 % band, seconds",
            "confidence": "0 to 1",
            "path_cost": "mean cost along the alignment, 0 is the same pictures",
            "mount_shift": "largest shift of a corner by the mount correction, picture widths",
            "overlap": "share of the shorter clip that was matched, 0 to 1",
        },
    }


def write_metrics(comparison: Comparison, out_path: Path) -> None:
    """Write metrics.json."""
    text = json.dumps(metrics(comparison), indent=2, ensure_ascii=False, allow_nan=False)
    out_path.write_text(text + "\n", encoding="utf-8")


def delta_units(comparison: Comparison) -> dict[str, str]:
    """Return the columns of delta.csv with their units, in order."""
    return DELTA_UNITS | (FLOW_UNITS if _has_flow(comparison) else {})


def write_delta(comparison: Comparison, out_path: Path) -> None:
    """Write delta.csv: a header whose names end in units, then one row per sample of the alignment."""
    alignment = comparison.alignment
    columns = [
        alignment.time_a_s,
        alignment.time_b_s,
        alignment.time_a_s - alignment.time_a_s[0],
        comparison.delta_s,
        alignment.error_s,
        comparison.relative_speed,
        alignment.confidence,
    ]
    if comparison.flow_a is not None and comparison.flow_b is not None:
        columns += [comparison.flow_a, comparison.flow_b]
    with out_path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(delta_units(comparison))
        for row in np.stack(columns, axis=1):
            rows.writerow("" if np.isnan(value) else f"{value:.5f}" for value in row)


def _has_flow(comparison: Comparison) -> bool:
    return comparison.flow_a is not None and comparison.flow_b is not None


def _faster(comparison: Comparison) -> str | None:
    delta_s = wording.total_delta_s(comparison)
    if not is_clear(delta_s, wording.total_error_s(comparison)):
        return None
    return "a" if delta_s > 0 else "b"


def _clip(clip: VideoFacts) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in asdict(clip).items()}


def _sector(comparison: Comparison, sector: Sector) -> dict[str, Any]:
    alignment = comparison.alignment
    start_b_s, end_b_s = np.interp([sector.start_a_s, sector.end_a_s], alignment.time_a_s, alignment.time_b_s)
    return {
        "name": sector.name,
        "time_a_s": _number(sector.time_a_s),
        "time_b_s": _number(sector.time_b_s),
        "delta_s": _number(sector.delta_s),
        "error_s": _number(sector.error_s),
        "confidence": _number(sector.confidence),
        "grade": wording.grade(sector.confidence),
        "provenance": _span(comparison, sector.start_a_s, sector.end_a_s, float(start_b_s), float(end_b_s)),
    }


def _opportunity(comparison: Comparison, opportunity: Opportunity) -> dict[str, Any]:
    return {
        "rank": opportunity.rank,
        "loser": opportunity.loser,
        "sentence": wording.opportunity_sentence(comparison, opportunity),
        "lost_s": _number(opportunity.lost_s),
        "error_s": _number(opportunity.error_s),
        "confidence": _number(opportunity.confidence),
        "grade": wording.grade(opportunity.confidence),
        "provenance": _span(
            comparison, opportunity.start_a_s, opportunity.end_a_s, opportunity.start_b_s, opportunity.end_b_s
        ),
    }


def _span(comparison: Comparison, start_a_s: float, end_a_s: float, start_b_s: float, end_b_s: float) -> dict[str, Any]:
    """Return the part of each clip that a figure was computed from."""
    return {
        "start_lap_s": _number(wording.lap_time_s(comparison, start_a_s)),
        "end_lap_s": _number(wording.lap_time_s(comparison, end_a_s)),
        "a": _source(comparison.clip_a, start_a_s, end_a_s),
        "b": _source(comparison.clip_b, start_b_s, end_b_s),
    }


def _source(clip: VideoFacts, start_s: float, end_s: float) -> dict[str, Any]:
    """Return times on a clip's own clock and, at a constant frame rate, its frames, counted from 0."""
    frames = None if clip.variable_rate else [round(start_s * clip.mean_rate_hz), round(end_s * clip.mean_rate_hz)]
    return {"start_s": _number(start_s), "end_s": _number(end_s), "frames": frames}


def _number(value: float) -> float | None:
    """Round to a tenth of a millisecond; return None for NaN, which JSON does not have."""
    return round(float(value), 4) if np.isfinite(value) else None
