"""Laps from the crossings of a line, with the evidence for each, or the reason why there are none. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from modal_workers.lap_detection.crossings import StartLine
from modal_workers.lap_detection.return_map import Floats, Moments, ReturnPath, match_costs
from modal_workers.lap_detection.spec import (
    RESULT_LAPS,
    CrossingResult,
    LapDetectionResult,
    LapResult,
    Reason,
    VideoFactsResult,
)
from modal_workers.road_video.time_warping import SKIP_COST

#: A lap this many times as long as the fastest is an out-lap, an in-lap, or one through the pits.
SLOW: Final = 1.25
#: Shorter rests are not told from slow driving.
REST_S: Final = 0.5
#: Mean luma below which a camera sees hardly more than noise; black is 16 in most videos.
DARK_LEVEL: Final = 28.0
#: A rejected repeat of at least this density that gains so many times what one to mirrored frames gains is worth a
#: word: similar scenery, or too little of the same.
SIMILAR_DENSITY: Final = 0.2
SIMILAR_OVER_CHANCE: Final = 1.5

EXPLANATIONS: Final[dict[Reason, str]] = {
    "standing_camera": "Almost nothing in the video moves: the camera stands still.",
    "too_dark": "The video is too dark to recognise a place again; film in more light or with a longer exposure.",
    "shorter_than_a_lap": "The car moves for less than min_lap_s; lower it if the video has a whole lap.",
    "no_repeat": (
        "No place is passed twice in the same direction: less than a lap was filmed, or the road is no circuit. "
        "If there are laps, check min_lap_s and max_lap_s."
    ),
    "similar_scenery": (
        "Some stretches look alike, but not enough to be the same place; a longer part of the second lap would help."
    ),
    "start_line_seen_once": (
        "The place at start_line_s is recognised only once; choose a time at which the car drives on the circuit, "
        "or leave start_line_s out."
    ),
}


@dataclass(frozen=True)
class MovingClock:
    """The moving clock of a video. Shapes: clock_s, time_s [N], both rising."""

    clock_s: Floats
    time_s: Floats

    def at(self, clock_s: float) -> float:
        """Return the time of the video at a moment of the moving clock."""
        return float(np.interp(clock_s, self.clock_s, self.time_s))


def build_laps(
    line: StartLine, timeline: MovingClock, moments: Moments, paths: Sequence[ReturnPath]
) -> tuple[tuple[LapResult, ...], tuple[CrossingResult, ...]]:
    """Return the laps between crossings that follow each other, and all crossings."""
    matched_s, costs = _matched(moments, paths)
    raw: list[LapResult] = []
    for start, end in pairwise(line.crossings):
        if start.chain != end.chain:
            continue
        start_s, end_s = timeline.at(start.clock_s), timeline.at(end.clock_s)
        within = (matched_s >= start.clock_s) & (matched_s <= end.clock_s)
        inside = (moments.clock_s >= start.clock_s) & (moments.clock_s <= end.clock_s)
        good = within & (costs < SKIP_COST)
        matched = float(min(1.0, len(np.unique(matched_s[good])) / max(1, int(inside.sum()))))
        share = float(np.clip((matched - 0.3) / 0.4, 0.05, 1.0))
        raw.append(
            LapResult(
                number=len(raw) + 1,
                start_s=start_s,
                end_s=end_s,
                lap_s=end_s - start_s,
                error_s=float(np.hypot(start.error_s, end.error_s)),
                confidence=min(start.confidence, end.confidence) * share,
                matched=matched,
                similarity=float(1 - np.mean(costs[within])) if within.any() else 0.0,
                rest_s=max(0.0, end_s - start_s - (end.clock_s - start.clock_s)),
                slow=False,
            )
        )
    fastest_s = min((lap.lap_s for lap in raw), default=0.0)
    laps = tuple(lap.model_copy(update={"slow": lap.lap_s > SLOW * fastest_s or lap.rest_s >= REST_S}) for lap in raw)
    crossings = tuple(
        CrossingResult(
            time_s=timeline.at(crossing.clock_s),
            error_s=crossing.error_s,
            similarity=crossing.similarity,
            confidence=crossing.confidence,
        )
        for crossing in line.crossings
    )
    return laps, crossings


def _matched(moments: Moments, paths: Sequence[ReturnPath]) -> tuple[Floats, Floats]:
    """Return the moments [M] that the map connects with a later or an earlier lap, and the cost [M] of each."""
    times, costs = [np.empty(0)], [np.empty(0)]
    for path in paths:
        for near, far in ((path.from_s, path.to_s), (path.to_s, path.from_s)):
            inside = moments.clock_s[(moments.clock_s >= near[0]) & (moments.clock_s <= near[-1])]
            times.append(inside)
            costs.append(match_costs(moments, inside, np.interp(inside, near, far)))
    return np.concatenate(times), np.concatenate(costs)


def why_nothing(
    *, static: bool, mean_level: float, moving_s: float, min_lap_s: float, rejected: ReturnPath | None, line_given: bool
) -> Reason:
    """Return why a video has no lap, the most certain cause first.

    ``mean_level`` is the mean luma, ``moving_s`` how long the car moves, ``rejected`` the best repeat, which was
    not good enough, ``line_given`` whether there are repeats, but not of the place that the user gave.
    """
    if mean_level < DARK_LEVEL:
        return "too_dark"
    if static:
        return "standing_camera"
    if line_given:
        return "start_line_seen_once"
    if moving_s < min_lap_s:
        return "shorter_than_a_lap"
    if rejected is None or rejected.density < SIMILAR_DENSITY or rejected.over_chance < SIMILAR_OVER_CHANCE:
        return "no_repeat"
    return "similar_scenery"


def build_result(
    video: VideoFactsResult,
    laps: tuple[LapResult, ...],
    crossings: tuple[CrossingResult, ...],
    *,
    reference_s: float | None,
    given: bool,
    reason: Reason | None,
    warnings: tuple[str, ...],
) -> LapDetectionResult:
    """Return the result of the job."""
    flying = [lap for lap in laps if lap.rest_s < REST_S]
    if len(laps) > RESULT_LAPS:
        warnings = (*warnings, f"The result lists the first {RESULT_LAPS} of {len(laps)} laps; laps.json has all.")
    if any(lap.confidence < 0.3 for lap in laps):
        warnings = (*warnings, "Laps with a confidence below 0.3 may begin or end elsewhere: look at their pictures.")
    return LapDetectionResult(
        video=video,
        laps=laps[:RESULT_LAPS],
        lap_count=len(laps),
        crossings=crossings[: RESULT_LAPS + 1],
        start_line_s=reference_s,
        start_line_chosen="none" if reference_s is None else "given" if given else "automatic",
        fastest=min(flying, key=lambda lap: lap.lap_s).number if flying else None,
        reason=reason,
        explanation=EXPLANATIONS[reason] if reason else "",
        warnings=warnings,
    )
