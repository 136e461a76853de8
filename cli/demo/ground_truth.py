"""Ground truth of rendered laps, and the errors of a lap comparison."""

from __future__ import annotations

import bisect
import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class MeasuredFigure:
    """A measured time difference and the true one, s; positive: lap B is slower."""

    name: str
    measured_s: float
    #: Half-width of the 95 % confidence interval that the comparison reports.
    band_s: float
    true_s: float

    @property
    def error_s(self) -> float:
        """Absolute error of the measurement, s."""
        return abs(self.measured_s - self.true_s)


@dataclass(frozen=True)
class TrueLapTimes:
    """Times of laps A and B at the same track positions; ``time_a_s`` increases."""

    time_a_s: Sequence[float]
    time_b_s: Sequence[float]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Load truth.json."""
        content = json.loads(path.read_text())
        return cls(content["time_a_s"], content["time_b_s"])

    def b_at(self, time_a_s: float) -> float:
        """Return lap B's time at the position of lap A's time, interpolated and extrapolated linearly."""
        right = min(max(bisect.bisect_left(self.time_a_s, time_a_s), 1), len(self.time_a_s) - 1)
        a0, a1 = self.time_a_s[right - 1], self.time_a_s[right]
        b0, b1 = self.time_b_s[right - 1], self.time_b_s[right]
        return b0 + (b1 - b0) * (time_a_s - a0) / (a1 - a0)

    def delta_s(self, start_a_s: float, end_a_s: float) -> float:
        """Return how much longer B took than A between two positions, given by A's times."""
        return (self.b_at(end_a_s) - self.b_at(start_a_s)) - (end_a_s - start_a_s)


def figures(result: dict[str, Any], truth: TrueLapTimes) -> list[MeasuredFigure]:
    """Return the time differences of the whole lap and of each sector, with the true ones."""
    start_s, end_s = result["start_reference_s"], result["end_reference_s"]
    found = [MeasuredFigure("whole lap", result["delta_s"], result["delta_error_s"], truth.delta_s(start_s, end_s))]
    found += [
        MeasuredFigure(
            sector["name"],
            sector["delta_s"],
            sector["error_s"],
            truth.delta_s(sector["start_reference_s"], sector["end_reference_s"]),
        )
        for sector in result["sectors"]
    ]
    return found


def true_loss_s(opportunity: dict[str, Any], truth: TrueLapTimes) -> float:
    """Return the time that the loser of an opportunity truly lost in it, s."""
    delta_s = truth.delta_s(opportunity["start_reference_s"], opportunity["end_reference_s"])
    return delta_s if opportunity["loser"] == "other" else -delta_s


def curve_errors(delta_csv: Path, truth: TrueLapTimes) -> tuple[float, float]:
    """Return the median and the maximum error of the delta along the lap, s."""
    with delta_csv.open(newline="") as file:
        rows = [(float(row["time_a_s"]), float(row["delta_s"])) for row in csv.DictReader(file)]
    start_s = rows[0][0]
    errors = [abs(delta_s - truth.delta_s(start_s, time_s)) for time_s, delta_s in rows]
    return statistics.median(errors), max(errors)
