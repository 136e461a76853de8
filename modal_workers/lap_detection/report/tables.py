"""The laps for other programs: laps.json with units and evidence, laps.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from modal_workers.lap_detection.spec import CrossingResult, LapDetectionResult, LapResult

LAPS_VERSION: Final = 1
#: Columns of laps.csv with their units.
LAP_UNITS: Final = {
    "number": "1",
    "start_s": "s, from the video's first frame",
    "end_s": "s, from the video's first frame",
    "lap_s": "s",
    "error_s": "s, half-width of the 95 % band of lap_s",
    "confidence": "1, from 0 to 1",
    "matched": "1, share of the lap that another lap shows too",
    "similarity": "1, mean cosine of its frames with those of the other lap",
    "rest_s": "s, at rest within the lap",
    "slow": "true or false",
}


def write_laps_json(
    path: Path, result: LapDetectionResult, laps: Sequence[LapResult], crossings: Sequence[CrossingResult]
) -> None:
    """Write all laps and crossings, with the units and what the result says besides."""
    body: dict[str, Any] = {"version": LAPS_VERSION, "units": LAP_UNITS}
    body |= result.model_dump(mode="json")
    body["laps"] = [_rounded(lap) for lap in laps]
    body["crossings"] = [_rounded(crossing) for crossing in crossings]
    path.write_text(json.dumps(body, indent=1), encoding="utf-8")


def write_laps_csv(path: Path, laps: Sequence[LapResult]) -> None:
    """Write a row for each lap."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, LAP_UNITS)
        rows.writeheader()
        rows.writerows(_rounded(lap) for lap in laps)


def _rounded(row: LapResult | CrossingResult) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in row.model_dump(mode="json").items()
    }
