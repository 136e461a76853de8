"""Sentences and number formats of a comparison, shared by the overlay, the figure, the tables and the report.

Lap time, wherever a person reads it, is the time since the start of the stretch that both clips show: zero is the first
place seen in both, so the clocks of both drivers, their difference and the player's own clock agree.
"""

from __future__ import annotations

from typing import Literal

from modal_workers.lap_compare import headline as headlines
from modal_workers.lap_compare.comparison import Comparison, Opportunity
from modal_workers.lap_compare.lap_delta import GOOD_CONFIDENCE, difference_error_s

Grade = Literal["good", "fair", "poor"]
#: Half the confidence of a good moment means about twice its error.
FAIR_CONFIDENCE = GOOD_CONFIDENCE / 2


def grade(confidence: float) -> Grade:
    """Return the grade of a confidence (0..1)."""
    if confidence >= GOOD_CONFIDENCE:
        return "good"
    return "fair" if confidence >= FAIR_CONFIDENCE else "poor"


def format_lap_time(seconds: float) -> str:
    """Format a lap time as minutes, seconds and hundredths: ``1:02.34``."""
    hundredths = max(0, round(seconds * 100))
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def lap_time_s(comparison: Comparison, time_a_s: float) -> float:
    """Convert a time on clip A's own clock to lap time."""
    return time_a_s - float(comparison.alignment.time_a_s[0])


def total_delta_s(comparison: Comparison) -> float:
    """Return B's time over the common stretch minus A's."""
    return comparison.total_b_s - comparison.total_a_s


def total_error_s(comparison: Comparison) -> float:
    """Return the half-width of the 95 % band of the total: both ends of the stretch are uncertain, independently."""
    return difference_error_s(comparison.alignment, 0, -1)


def headline(comparison: Comparison) -> str:
    """Return one sentence: who is faster and by how much, or that the difference is within the error."""
    return headlines.headline(total_delta_s(comparison), total_error_s(comparison), comparison.total_a_s)


def opportunity_sentence(comparison: Comparison, opportunity: Opportunity) -> str:
    """Return how much time was lost where, in lap time: ``B: 0.41 s lost between 23.1 s and 27.8 s``."""
    start_s, end_s = lap_time_s(comparison, opportunity.start_a_s), lap_time_s(comparison, opportunity.end_a_s)
    return f"{opportunity.loser.upper()}: {opportunity.lost_s:.2f} s lost between {start_s:.1f} s and {end_s:.1f} s"


def confidence_sentence(comparison: Comparison) -> str:
    """Explain the confidence of the whole comparison by the figures behind it."""
    alignment = comparison.alignment
    meaning = {
        "good": "most moments are matched to about 0.1 s or better",
        "fair": "the lap matches, but many moments only to a few tenths of a second",
        "poor": "the clips match weakly: treat every figure as a rough estimate",
    }[grade(comparison.confidence)]
    return (
        f"Confidence {grade(comparison.confidence)} ({comparison.confidence:.2f} of 1): {meaning}. "
        f"{alignment.overlap:.0%} of the shorter clip was matched, at a mean path cost of {alignment.path_cost:.2f}; "
        f"parts of the picture that were aligned separately differ by {alignment.piecewise_s:.2f} s (median)."
    )
