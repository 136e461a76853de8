"""Segments of a broadcast: the play, and cuts away from it."""

from __future__ import annotations

import numpy as np

from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import SegmentKind, TrueSegment
from simulators.badminton.play.match_script import MatchScript

_SHORTEST_S = 1.0


def plan_segments(options: MatchOptions, script: MatchScript) -> tuple[TrueSegment, ...]:
    """Return the segments of the video, in order and without gaps."""
    away: list[TrueSegment] = []
    if options.cuts:
        random = np.random.default_rng([options.seed, 67])
        kinds: tuple[SegmentKind, ...] = ("replay", "close-up", "crowd")
        shift = int(random.integers(0, 3))
        for number, rally in enumerate(script.rallies):
            following = [later.start_s for later in script.rallies[number + 1 :]]
            latest = min([options.duration_s, *(start - 1.2 for start in following[:1])])
            start = rally.end_s + float(random.uniform(0.7, 1.2))
            end = min(start + float(random.uniform(2.2, 4.0)), latest)
            if end - start >= _SHORTEST_S:
                away.append(TrueSegment(start, end, kinds[(number + shift) % 3]))
    if options.black_s is not None:
        start, end = options.black_s
        away = [cut for cut in away if cut.end_s <= start or cut.start_s >= end]
        away.append(TrueSegment(start, min(end, options.duration_s), "black"))
    segments: list[TrueSegment] = []
    now = 0.0
    for cut in sorted(away, key=lambda cut: cut.start_s):
        if cut.start_s > now:
            segments.append(TrueSegment(now, cut.start_s, "play"))
        segments.append(cut)
        now = cut.end_s
    if now < options.duration_s:
        segments.append(TrueSegment(now, options.duration_s, "play"))
    return tuple(segments)
