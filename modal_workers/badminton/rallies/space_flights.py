"""Flights in space through the points of one chain: where each begins, and its path.

Places where a flight may begin are proposed from the picture; which of them are kept is decided by the costs of the
flights between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.flight_model import FlightFits, Prior, Sightings, SpaceCamera, fit_flights
from modal_workers.badminton.rallies.flight_piece import FlightPiece, SpacePath, fit_piece
from modal_workers.badminton.rallies.picture_cuts import FEWEST_POINTS, LONGEST_FLIGHT_S, OUTLIER_COST, cut_in_picture
from modal_workers.badminton.shuttle.linking import REFERENCE_HEIGHT_PX

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Costs in units of squared standard deviations: of a flight, whose six numbers bring costs of their own, and of a
#: piece where cuts are only proposed.
_FLIGHT_COST: Final = 15.0
_PROPOSED_COST: Final = 8.0
#: Nobody returns a shuttle sooner than this; a shorter flight costs more.
_SHORTEST_FLIGHT_S: Final = 0.25
_SHORT_COST: Final = 12.0
#: So many proposed pieces may be one flight.
_MOST_JOINED: Final = 5
#: A bend is proposed as a cut from this change of velocity on, seen within this time.
_BEND_PX_S: Final = 180.0
_BEND_S: Final = 0.4
#: A gap as long as this is proposed as a cut.
_GAP_S: Final = 0.15
#: A contact is looked for this far beyond the gap between two flights.
_BEYOND_S: Final = 0.04
#: Cost from which on a flight fits badly: a cut is missing or in the wrong place. So many more places are tried.
_POOR_COST: Final = 30.0
_MOST_TRIED: Final = 16
#: Flights fitted at once, and points of each that are used.
_BATCH: Final = 256
_MOST_POINTS: Final = 20


@dataclass(frozen=True, eq=False)
class ChainPoints:
    """Points of the track without a long gap between them."""

    frames: Indices
    times_s: Floats
    position_px: Floats
    chain: int


def find_space_flights(points: ChainPoints, times_s: Floats, camera: SpaceCamera) -> list[FlightPiece]:
    """Return the flights in space of one chain of points, in order; ``times_s`` are those of all frames."""
    cuts = _possible_cuts(points.times_s, points.position_px, camera.picture_size[1] / REFERENCE_HEIGHT_PX)
    flights = _Flights(points, camera)
    flights.fit(
        [(low, high) for number, low in enumerate(cuts) for high in cuts[number + 1 : number + 1 + _MOST_JOINED]]
    )
    chosen = flights.best(cuts)
    around = _around_poor(chosen, flights.costs)
    if around:
        flights.fit([span for span in around if span not in flights.costs])
        chosen = flights.best(sorted({*cuts, *(end for span in around for end in span)}))
    return [
        replace(
            fit_piece(points.frames[low:high], times_s, points.position_px[low:high], points.chain),
            space=flights.paths[low, high],
        )
        for low, high in chosen
    ]


@dataclass(eq=False)
class _Flights:
    """Flights through ranges of the points of a chain, and their costs."""

    points: ChainPoints
    camera: SpaceCamera
    paths: dict[tuple[int, int], SpacePath] = field(default_factory=dict)
    costs: dict[tuple[int, int], float] = field(default_factory=dict)

    def fit(self, spans: Sequence[tuple[int, int]]) -> None:
        """Fit flights through more ranges, as far as they may be flights."""
        times_s = self.points.times_s
        spans = [
            (low, high)
            for low, high in spans
            if high - low >= FEWEST_POINTS and times_s[high - 1] - times_s[low] <= LONGEST_FLIGHT_S
        ]
        for span, (path, cost) in zip(spans, _paths(spans, self.points, self.camera), strict=True):
            self.paths[span], self.costs[span] = path, cost

    def best(self, cuts: list[int]) -> list[tuple[int, int]]:
        """Return the ranges of least cost."""
        return _best_spans(cuts, {span: cost + self._short(*span) for span, cost in self.costs.items()})

    def _short(self, low: int, high: int) -> float:
        times_s = self.points.times_s
        until_s = times_s[min(high, len(times_s) - 1)]
        return _SHORT_COST if until_s - times_s[low] < _SHORTEST_FLIGHT_S else 0.0


def refit(
    paths: Sequence[SpacePath], origins_s: Sequence[float], prior: Prior, at_net_s: Sequence[float] | None = None
) -> tuple[list[SpacePath], Floats]:
    """Return the flights fitted again from other origins with other knowledge of their start, and the costs.

    ``at_net_s``: when each of them is in the net's plane, if that is known.
    """
    found: list[SpacePath] = []
    costs: list[float] = []
    start = 0
    while start < len(paths):
        # Those of one camera together: after a cut another one sees the flights.
        end = start + 1
        while end < min(len(paths), start + _BATCH) and paths[end].camera is paths[start].camera:
            end += 1
        rows, start = slice(start, end), end
        some = list(zip(paths[rows], origins_s[rows], strict=True))
        sightings = _padded([(path.seen_s - origin, path.seen_px, path.weight) for path, origin in some])
        if at_net_s is not None:
            sightings = _ending_at_net(sightings, np.subtract(at_net_s[rows], origins_s[rows]))
        fits = fit_flights(sightings, some[0][0].camera, Prior(prior.mean[rows], prior.spread[rows]))
        found += [_with_fit(path, origin, fits, row) for row, (path, origin) in enumerate(some)]
        costs += fits.cost.tolist()
    return found, np.array(costs)


def contact_time(before: FlightPiece, after: FlightPiece) -> float:
    """Return when two paths are nearest to each other in the picture, about between their ends."""
    gap = (after.start_s - before.end_s) / 2
    beyond = min(0.3 * gap, _BEYOND_S)
    times = np.linspace(before.end_s - beyond, after.start_s + beyond, 17)
    offsets = [before.position_px(time) - after.position_px(time) for time in times]
    return float(times[int(np.hypot(*np.array(offsets).T).argmin())])


def _best_spans(cuts: list[int], costs: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return the spans of least cost from the first cut to the last; points between two of them are outliers."""
    best: dict[int, tuple[float, int, bool]] = {cuts[0]: (0.0, 0, False)}
    for number, low in enumerate(cuts[:-1]):
        following = cuts[number + 1]
        options = [(high, costs[low, high] + _FLIGHT_COST, True) for high in cuts[number + 1 :] if (low, high) in costs]
        options.append((following, OUTLIER_COST * (following - low), False))
        for high, cost, flown in options:
            total = best[low][0] + cost
            if high not in best or total < best[high][0]:
                best[high] = (total, low, flown)
    spans: list[tuple[int, int]] = []
    end = cuts[-1]
    while end > cuts[0]:
        _, low, flown = best[end]
        if flown:
            spans.append((low, end))
        end = low
    return spans[::-1]


def _around_poor(chosen: Sequence[tuple[int, int]], costs: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Return spans that begin or end where no cut was proposed, within and beside the chosen ones that fit badly.

    A bend is no sharp one where the shuttle goes on in nearly the same direction of the picture.
    """
    found: set[tuple[int, int]] = set()
    for number, (low, high) in enumerate(chosen):
        if costs[low, high] < _POOR_COST:
            continue
        starts, ends = [low], [high]
        if number and chosen[number - 1][1] == low:
            starts.append(chosen[number - 1][0])
        if number + 1 < len(chosen) and chosen[number + 1][0] == high:
            ends.append(chosen[number + 1][1])
        first, last = min(starts) + FEWEST_POINTS, max(ends) - FEWEST_POINTS
        if last < first:
            continue
        for cut in np.linspace(first, last, min(_MOST_TRIED, last - first + 1)).round().astype(int).tolist():
            found |= {(start, cut) for start in starts} | {(cut, end) for end in ends}
    return sorted(found)


def _possible_cuts(times_s: Floats, position: Floats, scale: float) -> list[int]:
    """Return where flights may begin: more places than there are hits."""
    cuts = {0, len(times_s)}
    for low, high in cut_in_picture(times_s, position, scale, _PROPOSED_COST):
        cuts |= {low, high}
    cuts |= set((np.flatnonzero(np.diff(times_s) > _GAP_S) + 1).tolist())
    # Bends: two straight lines through three points on each side differ in direction.
    for index in range(3, len(times_s) - 2):
        before, after = slice(index - 3, index), slice(index, index + 3)
        if times_s[index + 2] - times_s[index - 3] > _BEND_S:
            continue
        middle = (times_s[index - 1] + times_s[index]) / 2
        lines = [np.polyfit(times_s[part] - middle, position[part], 1) for part in (before, after)]
        bend = float(np.hypot(*(lines[1][0] - lines[0][0]))) / scale
        if bend > _BEND_PX_S and not cuts & {index - 1, index + 1}:
            cuts.add(index)
    return sorted(cuts)


def _paths(spans: Sequence[tuple[int, int]], points: ChainPoints, camera: SpaceCamera) -> list[tuple[SpacePath, float]]:
    """Return path and cost of the flight through each range of points."""
    times = points.times_s
    found: list[tuple[SpacePath, float] | None] = [None] * len(spans)
    # Flights of about equal length together: all are integrated as far as the longest.
    ordered = sorted(range(len(spans)), key=lambda index: float(times[spans[index][1] - 1] - times[spans[index][0]]))
    for batch in (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)):
        seen: list[SpacePath] = []
        for index in batch:
            low, high = spans[index]
            chosen = np.linspace(low, high - 1, min(high - low, _MOST_POINTS)).round().astype(int)
            weight = (high - low) / len(chosen)
            path = SpacePath(
                float(times[low]), _UNKNOWN, _UNKNOWN, times[chosen], points.position_px[chosen], weight, camera
            )
            seen.append(path)
        paths, costs = refit(seen, [path.origin_s for path in seen], Prior.of_any(len(seen)))
        for index, path, cost in zip(batch, paths, costs, strict=True):
            found[index] = (path, float(cost))
    return [flight for flight in found if flight is not None]


_UNKNOWN: Final = np.zeros(0)


def _padded(seen: Sequence[tuple[Floats, Floats, float]]) -> Sightings:
    """Return sightings of unequal number as arrays."""
    most = max(len(times) for times, _, _ in seen)
    elapsed, weight = np.zeros((2, len(seen), most))
    pixels = np.zeros((len(seen), most, 2))
    for row, (times, position, each) in enumerate(seen):
        elapsed[row, : len(times)], pixels[row, : len(times)], weight[row, : len(times)] = times, position, each
    return Sightings(elapsed, pixels, weight)


def _ending_at_net(sightings: Sightings, elapsed_s: Floats) -> Sightings:
    """Return sightings with one time more, at which the flight is in the net's plane and not seen."""

    def longer(values: Floats, last: Floats) -> Floats:
        return np.concatenate([values, last[:, None]], axis=1)

    none = np.zeros(len(elapsed_s))
    return Sightings(
        longer(sightings.elapsed_s, elapsed_s),
        longer(sightings.pixels, np.zeros((len(elapsed_s), 2))),
        longer(sightings.weight, none),
        longer(np.zeros_like(sightings.weight), none + 1),
    )


def _with_fit(path: SpacePath, origin_s: float, fits: FlightFits, row: int) -> SpacePath:
    return replace(path, origin_s=origin_s, state=fits.state[row], covariance=fits.covariance[row])
