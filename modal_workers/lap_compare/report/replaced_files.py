"""Files in the form of the lap comparison that this one replaces: compat/metrics.csv and compat/insights.json."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Final

import numpy as np

from modal_workers.lap_compare import wording
from modal_workers.lap_compare.comparison import Comparison
from modal_workers.lap_compare.spec import LapCompareResult
from modal_workers.runtime.context import Context

#: Columns of metrics.csv with their units. Pictures give no metres, so the place is a time of lap A.
_METRICS_UNITS: Final = {
    "distance": "s, place along the lap: lap A's time from the start of the common stretch",
    "deltaT": "s, above zero B is behind A",
}


def save_replaced_files(context: Context, comparison: Comparison, result: LapCompareResult) -> None:
    """Write and save both files."""
    metrics, insights = context.scratch / "compat-metrics.csv", context.scratch / "compat-insights.json"
    _write_metrics(comparison, metrics)
    _write_insights(comparison, result, insights)
    title = "The delta, for clients of the replaced system"
    context.save(metrics, "compat/metrics.csv", "text/csv", title=title, units=_METRICS_UNITS)
    title = "The result, for clients of the replaced system"
    context.save(insights, "compat/insights.json", "application/json", title=title)


def _write_metrics(comparison: Comparison, metrics: Path) -> None:
    place_s = comparison.alignment.time_a_s - comparison.alignment.time_a_s[0]
    with metrics.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_METRICS_UNITS)
        for distance, delta_s in zip(place_s, comparison.delta_s, strict=True):
            if np.isfinite(delta_s):
                rows.writerow((f"{distance:.5f}", f"{delta_s:.5f}"))


def _write_insights(comparison: Comparison, result: LapCompareResult, insights: Path) -> None:
    content = {
        "summary": wording.headline(comparison),
        "overlay": "overlay.mp4",
        "metrics": "metrics.csv",
        "insights": "insights.json",
        "result": result.model_dump(mode="json"),
    }
    insights.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
