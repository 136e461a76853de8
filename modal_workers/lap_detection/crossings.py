"""The place at which laps are timed, and the moments at which the car passes it, below one frame. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_detection.return_map import Moments, ReturnPath
from modal_workers.road_video.align import TimeMap, align_samples
from modal_workers.road_video.moving_samples import MovingSamples
from modal_workers.road_video.time_warping import SKIP_COST, find_warping_path

Floats = NDArray[np.float64]

#: Moving time around a crossing that is aligned: of the reference, and of another visit, whose time is less certain.
STRETCH_S: Final = 3.0
SEARCH_S: Final = 4.5
#: The map leads to the next crossing if it leads to a moment this close to it.
FOLLOWS_S: Final = 2.0
#: Gain per sample below which a stretch is not the same place: the car was elsewhere, in the pits for example.
MIN_STRETCH_DENSITY: Final = 0.25
#: A crossing more uncertain than this is none.
MAX_ERROR_S: Final = 0.5
#: An error band of this half-width means confidence 0.5, as in lap_compare.
HALF_CONFIDENCE_S: Final = 0.1
#: Places that are tried as the reference, at least this far apart.
CANDIDATES: Final = 6
#: A long session has many crossings of each, and aligning one takes a tenth of a second.
CROSSINGS_TRIED: Final = 60
CANDIDATE_DISTANCE_S: Final = 1.0
#: Gain per moment of a place found again where the map has a gap: the best of all moments of a video.
MIN_FOUND_DENSITY: Final = 0.4


@dataclass(frozen=True)
class Crossing:
    """One passage of the reference place. ``clock_s`` is on the clock of the moving car."""

    clock_s: float
    error_s: float  # half-width of the 95 % band against the reference; 0 for the reference itself
    similarity: float  # mean cosine of the frames around it with those around the reference
    chain: int = 0  # crossings with the same number follow each other lap by lap

    @property
    def confidence(self) -> float:
        """0 to 1: 0.5 where the error is a tenth of a second, lower where the frames match badly."""
        precision = 1 / (1 + (self.error_s / HALF_CONFIDENCE_S) ** 2)
        return float(precision * np.clip((self.similarity - 0.12) / 0.2, 0.1, 1.0))


@dataclass(frozen=True)
class StartLine:
    """The reference place and its crossings, in order."""

    reference_s: float  # on the clock of the moving car
    crossings: tuple[Crossing, ...]

    @property
    def laps(self) -> int:
        """Number of pairs of crossings that follow each other."""
        return sum(before.chain == after.chain for before, after in pairwise(self.crossings))

    @property
    def worst_s(self) -> float:
        """The largest error of a crossing."""
        return max((crossing.error_s for crossing in self.crossings), default=0.0)


def choose_start_line(
    moving: MovingSamples,
    moments: Moments,
    paths: Sequence[ReturnPath],
    min_lap_s: float,
    progress: Callable[[float], None],
) -> StartLine:
    """Return the place with most laps whose crossings are most certain; ``paths`` is not empty."""
    best: StartLine | None = None
    candidates = candidate_places(moments, paths)
    for number, clock_s in enumerate(candidates):
        progress(number / len(candidates))
        found = find_crossings(moving, moments, paths, clock_s, min_lap_s)
        if best is None or (-found.laps, found.worst_s) < (-best.laps, best.worst_s):
            best = found
    if best is None:
        raise ValueError("no path, so no place is passed twice")
    return best


def candidate_places(moments: Moments, paths: Sequence[ReturnPath]) -> list[float]:
    """Return moments from which the map leads through most laps, the most distinct first."""
    clock_s = moments.clock_s
    visits = _visits(paths, clock_s)
    most = int(np.clip(CROSSINGS_TRIED // visits.max(), 2, CANDIDATES))
    contrast = _smoothed(_contrast(moments, paths), round(1.0 / moments.interval_s))
    chosen: list[float] = []
    # the ends of a stretch are uncertain; a place with a visit less is better than a crossing that is not seen
    inside = np.ones(len(clock_s), bool)
    for path in paths:
        for times in (path.from_s, path.to_s):
            inside &= (np.abs(clock_s - times[0]) > 1.0) & (np.abs(clock_s - times[-1]) > 1.0)
    for wanted in (visits.max(), visits.max() - 1):
        order = np.flatnonzero((visits == wanted) & (visits > 1) & inside)
        for at in order[np.argsort(-contrast[order], kind="stable")]:
            if len(chosen) == most:
                return chosen
            if all(abs(clock_s[at] - other) >= CANDIDATE_DISTANCE_S for other in chosen):
                chosen.append(float(clock_s[at]))
        if len(chosen) >= most / 2:
            return chosen
    return chosen or [float(paths[0].from_s[len(paths[0].from_s) // 2])]


def find_crossings(
    moving: MovingSamples,
    moments: Moments,
    paths: Sequence[ReturnPath],
    clock_s: float,
    min_lap_s: float,
) -> StartLine:
    """Find every passage of the place of a moment: along the map, and where it has gaps in all of the video."""
    reference = int(np.clip(np.searchsorted(moving.clock_s, clock_s), 0, len(moving.clock_s) - 1))
    at_s = float(moving.clock_s[reference])
    chains = [_chain(paths, at_s)]
    while (
        other := _found_elsewhere(moments, at_s, [time for chain in chains for time in chain], min_lap_s)
    ) is not None:
        known = [time for chain in chains for time in chain]
        chain = [time for time in _chain(paths, other) if min(abs(time - old) for old in known) >= min_lap_s / 2]
        chains.append(chain or [other])
    refined = (_refined(moving, reference, time) for chain in chains for time in chain if time != at_s)
    found = [Crossing(at_s, 0.0, 1.0), *(crossing for crossing in refined if crossing is not None)]
    return StartLine(at_s, _in_chains(sorted(found, key=lambda crossing: crossing.clock_s), paths))


def _in_chains(crossings: Sequence[Crossing], paths: Sequence[ReturnPath]) -> tuple[Crossing, ...]:
    """Return crossings with the numbers of their chains; one that the map does not lead to begins a chain.

    In copies of one file that are joined, the map leads from lap to lap and also from copy to copy.
    """
    chains = [0]
    for before, after in pairwise(crossings):
        returns = [path.later(before.clock_s) for path in paths]
        follows = any(back is not None and abs(back - after.clock_s) < FOLLOWS_S for back in returns)
        chains.append(chains[-1] + (not follows))
    return tuple(replace(crossing, chain=chain) for crossing, chain in zip(crossings, chains, strict=True))


def _chain(paths: Sequence[ReturnPath], clock_s: float) -> list[float]:
    """Return the moments to which the map leads from this one, in both directions, in order."""
    chain = [clock_s]
    while (before := next((t for path in paths if (t := path.earlier(chain[0])) is not None), None)) is not None:
        chain.insert(0, before)
    while (after := next((t for path in paths if (t := path.later(chain[-1])) is not None), None)) is not None:
        chain.append(after)
    return chain


def _visits(paths: Sequence[ReturnPath], clock_s: Floats) -> NDArray[np.int64]:
    """Return for each moment [N] how many moments the map connects with it, itself included."""
    visits = np.ones(len(clock_s), np.int64)
    for is_later in (True, False):
        at, alive = clock_s.copy(), np.ones(len(clock_s), bool)
        while alive.any():
            following = np.full(len(clock_s), np.nan)
            for path in paths:
                near, far = (path.from_s, path.to_s) if is_later else (path.to_s, path.from_s)
                inside = alive & np.isnan(following) & (at >= near[0]) & (at <= near[-1])
                following[inside] = np.interp(at[inside], near, far)
            alive = ~np.isnan(following)
            visits += alive
            at = following
    return visits


def _contrast(moments: Moments, paths: Sequence[ReturnPath]) -> Floats:
    """Return for each moment [N] how much better its return matches than moments 0.6 s beside it; 0 without return."""
    contrast = np.zeros(len(moments.clock_s))
    beside = max(1, round(0.6 / moments.interval_s))
    last = len(moments.clock_s) - 1
    for path in paths:
        rows = np.flatnonzero((moments.clock_s >= path.from_s[0]) & (moments.clock_s <= path.from_s[-1]))
        at = np.searchsorted(moments.clock_s, np.interp(moments.clock_s[rows], path.from_s, path.to_s))
        similar = [
            np.einsum("nl,nl->n", moments.vectors[rows], moments.vectors[np.clip(at + shift, 0, last)])
            for shift in (-beside, 0, beside)
        ]
        contrast[rows] = similar[1] - np.maximum(similar[0], similar[2])
    return contrast


def _smoothed(values: Floats, width: int) -> Floats:
    kernel = np.hanning(max(3, width) + 2)[1:-1]
    return np.convolve(values, kernel / kernel.sum(), "same")


def _found_elsewhere(moments: Moments, at_s: float, known_s: Sequence[float], min_lap_s: float) -> float | None:
    """Return another passage of a place, at least a lap away from those known; None if there is none."""
    clock_s = moments.clock_s
    template = _between(clock_s, at_s - STRETCH_S, at_s + STRETCH_S)
    if template.stop - template.start < 8:
        return None
    bounds = [-np.inf, *sorted(known_s), np.inf]
    best: tuple[float, float] | None = None
    for before, after in pairwise(bounds):
        part = _between(clock_s, before + min_lap_s, after - min_lap_s)
        if part.stop - part.start < template.stop - template.start:
            continue
        path = find_warping_path(moments.vectors[template], moments.vectors[part])
        rows, columns = path.mean_b_per_a()
        density = path.gain / (template.stop - template.start)
        middle = int(np.searchsorted(clock_s[template], at_s))
        if density < MIN_FOUND_DENSITY or not rows[0] <= middle <= rows[-1] or (best and density <= best[0]):
            continue
        best = (density, float(clock_s[part.start + round(float(np.interp(middle, rows, columns)))]))
    return best[1] if best else None


def _refined(moving: MovingSamples, reference: int, expected_s: float) -> Crossing | None:
    """Align the frames around an expected crossing with those around the reference; None if they do not match."""
    at_s = float(moving.clock_s[reference])
    near = _between(moving.clock_s, at_s - STRETCH_S, at_s + STRETCH_S)
    far = _between(moving.clock_s, expected_s - SEARCH_S, expected_s + SEARCH_S)
    if min(near.stop - near.start, far.stop - far.start) < 12:
        return None
    path = find_warping_path(moving.vectors[near], moving.vectors[far])
    # In another place the path may have a single sample, which cannot be refined.
    if path.gain / (near.stop - near.start) < MIN_STRETCH_DENSITY:
        return None
    time_map = align_samples(_part(moving, near), _part(moving, far), path)
    where = np.flatnonzero(time_map.sample_a == reference - near.start)
    if not len(where):
        return None
    error_s = _error_s(time_map, int(where[0]))
    similarity = float(1 - np.mean(time_map.cost))
    if error_s > MAX_ERROR_S or similarity < 1 - SKIP_COST:
        return None
    return Crossing(float(time_map.clock_b_s[where[0]]), error_s, similarity)


def _error_s(time_map: TimeMap, at: int) -> float:
    """Return the half-width of the error band at one sample of a stretch: the ends of a short one are uncertain."""
    beside = slice(max(0, at - 3), at + 4)
    return float(np.median(time_map.error_s[beside]))


def _between(clock_s: Floats, first_s: float, last_s: float) -> slice:
    return slice(int(np.searchsorted(clock_s, first_s)), int(np.searchsorted(clock_s, last_s, side="right")))


def _part(moving: MovingSamples, part: slice) -> MovingSamples:
    return MovingSamples(moving.index[part], moving.clock_s[part], moving.vectors[part])
