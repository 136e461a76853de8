"""Lap figures derived from an alignment: delta curve, total times, sectors, opportunities, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare.comparison import Advice, Alignment, Comparison, Opportunity, Sector

Floats = NDArray[np.float64]

#: An opportunity lasts at least this long and loses more than its error and more than MIN_LOSS_S.
MIN_OPPORTUNITY_S: Final = 1.0
MIN_LOSS_S: Final = 0.02
#: Time lost, by whom, first and last sample.
_Run = tuple[float, Literal["a", "b"], int, int]

#: Below this confidence a moment is not reliable.
GOOD_CONFIDENCE: Final = 0.5


def compare(
    clips: tuple[VideoFacts, VideoFacts],
    alignment: Alignment,
    relative_speed: Floats,
    *,
    sectors: int | Sequence[float],
    opportunities: int,
    warnings: Sequence[str] = (),
    advice: Sequence[Advice] = (),
    flow: tuple[Floats | None, Floats | None] = (None, None),
) -> Comparison:
    """Return all figures. ``sectors`` is their number, or the inner boundaries as times of A.

    Raises:
        SaccadeError: INVALID_PARAMETER, a given boundary lies outside what both clips show, or too close to another.
    """
    time_a, time_b = alignment.time_a_s, alignment.time_b_s
    delta = (time_b - time_b[0]) - (time_a - time_a[0])
    edges = _edges(alignment, delta, sectors)
    return Comparison(
        clip_a=clips[0],
        clip_b=clips[1],
        alignment=alignment,
        delta_s=delta,
        relative_speed=relative_speed,
        total_a_s=float(time_a[-1] - time_a[0]),
        total_b_s=float(time_b[-1] - time_b[0]),
        sectors=tuple(_sector(alignment, n, first, last) for n, (first, last) in enumerate(edges)),
        opportunities=find_opportunities(alignment, delta, opportunities),
        confidence=float(np.mean(alignment.confidence)),
        warnings=(*warnings, *_warnings(alignment, clips)),
        advice=tuple(advice),
        flow_a=flow[0],
        flow_b=flow[1],
    )


def difference_error_s(alignment: Alignment, first: int, last: int) -> float:
    """Return the half-width of the 95 % band of a time difference between two samples."""
    return float(np.hypot(alignment.error_s[first], alignment.error_s[last]))


def low_confidence_share(alignment: Alignment) -> float:
    """Return the share of the lap that is aligned with low confidence."""
    return float(np.mean(alignment.confidence < GOOD_CONFIDENCE))


def _sector(alignment: Alignment, number: int, first: int, last: int) -> Sector:
    time_a = float(alignment.time_a_s[last] - alignment.time_a_s[first])
    time_b = float(alignment.time_b_s[last] - alignment.time_b_s[first])
    return Sector(
        name=f"S{number + 1}",
        start_a_s=float(alignment.time_a_s[first]),
        end_a_s=float(alignment.time_a_s[last]),
        time_a_s=time_a,
        time_b_s=time_b,
        delta_s=time_b - time_a,
        error_s=difference_error_s(alignment, first, last),
        confidence=float(np.mean(alignment.confidence[first : last + 1])),
    )


def _edges(alignment: Alignment, delta: Floats, sectors: int | Sequence[float]) -> list[tuple[int, int]]:
    """Return the first and last sample of every sector."""
    time = alignment.time_a_s
    if isinstance(sectors, int):
        count = max(1, min(sectors, int((time[-1] - time[0]) / 1.0)))
        inner = [_stable_sample(alignment, delta, part / count, 1 / count) for part in range(1, count)]
    else:
        for given in sectors:
            if not time[0] < given < time[-1]:
                span = f"{time[0]:.2f} s to {time[-1]:.2f} s"
                text = f"Sector boundary {given:.2f} s lies outside what both clips show of the reference: {span}."
                raise SaccadeError(ErrorCode.INVALID_PARAMETER, text)
        inner = [int(np.searchsorted(time, given)) for given in sectors]
    edges = list(pairwise([0, *inner, len(time) - 1]))
    if not isinstance(sectors, int) and any(last <= first for first, last in edges):
        text = "Two sector boundaries are closer together than two compared pictures: leave one out."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, text)
    return edges


def _stable_sample(alignment: Alignment, delta: Floats, target_share: float, spacing: float) -> int:
    """Choose a boundary near a share of the lap where the alignment is sharp and neither driver gains time."""
    time = alignment.time_a_s
    share = (time - time[0]) / (time[-1] - time[0])
    near = np.flatnonzero(np.abs(share - target_share) <= 0.25 * spacing)
    if not len(near):
        return int(np.clip(np.searchsorted(share, target_share), 1, len(time) - 2))
    error = alignment.error_s / np.median(alignment.error_s)
    gain_rate = np.abs(np.gradient(delta, time))
    distance = np.abs(share - target_share) / spacing
    penalty = error + 2 * gain_rate / (np.median(gain_rate) + 0.01) + 4 * distance
    return int(np.clip(near[penalty[near].argmin()], 1, len(time) - 2))


def find_opportunities(alignment: Alignment, delta: Floats, most: int) -> tuple[Opportunity, ...]:
    """Find up to ``most`` stretches in which one driver loses most time, ranked by time lost; they do not overlap.

    A stretch is the run of samples with the greatest sum of (loss rate minus a base rate), so a slow loss over a long
    stretch does not count as one place, but a corner does.
    """
    time = alignment.time_a_s
    change = np.diff(delta)
    free = np.ones(len(change), bool)
    found: list[_Run] = []
    duration = np.diff(time)
    losers: tuple[tuple[Literal["a", "b"], float], ...] = (("b", 1.0), ("a", -1.0))
    for loser, sign in losers:
        base = 0.25 * float(np.quantile(np.maximum(sign * change / duration, 0), 0.95))
        for _ in range(most):
            score = np.where(free, sign * change - base * duration, -1e3)
            first, last = _best_run(score)
            lost = sign * float(delta[last] - delta[first])
            floor = max(MIN_LOSS_S, difference_error_s(alignment, first, last))
            if time[last] - time[first] < MIN_OPPORTUNITY_S or lost < floor:
                break
            free[first:last] = False
            found.append((lost, loser, first, last))
    found.sort(key=lambda run: -run[0])
    return tuple(_opportunity(alignment, rank, run) for rank, run in enumerate(found[:most], start=1))


def _best_run(score: Floats) -> tuple[int, int]:
    """Return the first and last bound of the run with the greatest sum. Source: Kadane, here by prefix sums."""
    sums = np.concatenate([[0.0], np.cumsum(score)])
    lowest = np.minimum.accumulate(sums)
    last = int((sums - lowest).argmax())
    return int(sums[: last + 1].argmin()), last


def _opportunity(alignment: Alignment, rank: int, run: _Run) -> Opportunity:
    lost, loser, first, last = run
    return Opportunity(
        rank=rank,
        loser=loser,
        start_a_s=float(alignment.time_a_s[first]),
        end_a_s=float(alignment.time_a_s[last]),
        start_b_s=float(alignment.time_b_s[first]),
        end_b_s=float(alignment.time_b_s[last]),
        lost_s=lost,
        error_s=difference_error_s(alignment, first, last),
        confidence=float(np.mean(alignment.confidence[first : last + 1])),
    )


def _warnings(alignment: Alignment, clips: tuple[VideoFacts, VideoFacts]) -> list[str]:
    warnings = []
    low_confidence = low_confidence_share(alignment)
    if low_confidence > 0.2:
        warnings.append(f"{100 * low_confidence:.0f} % of the lap is aligned with low confidence; see the error band.")
    if alignment.overlap < 0.9:
        warnings.append(f"Only {100 * alignment.overlap:.0f} % of the shorter clip is also seen in the other clip.")
    warnings += [
        f"{clip.filename} has {clip.mean_rate_hz:.1f} frames per second; its times are accordingly less precise."
        for clip in clips
        if clip.mean_rate_hz < 15
    ]
    return warnings
