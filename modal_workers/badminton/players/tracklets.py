"""Pieces of tracks that belong to one person each: they end where a detection could belong to two persons.

Which piece is which player is decided afterwards over the whole video (identity.py).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.assignment import best_assignment
from modal_workers.badminton.players.floor_points import FloorPoints
from modal_workers.badminton.players.motion_filter import GATE, MovingPerson

Floats = NDArray[np.float64]

#: A person who is not seen for longer is a new tracklet afterwards.
MAX_COAST_S: Final = 0.5
#: Logarithm of the density of a detection that belongs to nobody known (per square metre), and of a missed one.
_NEW_DENSITY: Final = -5.0
_MISSED: Final = -2.3
#: Who was hidden before stays hidden, and who was seen stays visible: logarithm of how much likelier than the exchange.
_STILL_HIDDEN: Final = 3.6
#: Detections of one shirt differ by about this (Hellinger distance); more than the limit says nothing more.
_SHIRT_VARIANCE: Final = 0.2**2
_SHIRT_LIMIT: Final = 4.0
#: Below this difference of log likelihoods, who is who is left open.
_AMBIGUOUS: Final = 6.0
#: Uncertain moments closer than this are one.
_SAME_MOMENT_S: Final = 0.4
#: Two boxes that overlap by this share of their union show one person.
_DUPLICATE_OVERLAP: Final = 0.7
#: Weight of a new detection in a person's mean shirt colours.
_SHIRT_UPDATE: Final = 0.05
_FRAMES_AT_ONCE: Final = 4096
_LOG_TWO_PI: Final = math.log(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Tracklet:
    """Detections of one person over a stretch without a doubt about who it is.

    ``points``: indices into FloorPoints. ``parents``: tracklets that it may continue, each with the cost (a negative
    log likelihood) of that; empty where nothing came before. ``rejected``: detections nearby that it cannot have moved
    to.
    """

    points: NDArray[np.int64]
    parents: tuple[tuple[int, float], ...]
    rejected: int


@dataclass(frozen=True)
class _Doubt:
    """A moment at which two tracks could have changed detections, at a cost."""

    frame: int
    time_s: float
    first: int
    second: int
    cost: float


class TrackletBuilder:
    """Follows all persons near the court through one view after another."""

    def __init__(
        self, points: FloorPoints, times_s: Floats, boxes_px: NDArray[np.float32], shirts: NDArray[np.float32]
    ) -> None:
        """Take the places, and boxes and shirts (square roots of histograms) of the same rows."""
        self._points = points
        self._times_s = times_s
        self._boxes_px = boxes_px
        self._shirts = shirts
        self._means = np.zeros((16, shirts.shape[1]), np.float32)
        self._free = list(range(15, -1, -1))
        self._active: list[MovingPerson] = []
        self._ended: list[MovingPerson] = []
        self._doubts: list[_Doubt] = []
        self._count = 0

    def build(self, progress: Callable[[float], None] | None = None) -> list[Tracklet]:
        """Return all tracklets in the order in which they begin.

        ``progress`` is called with the share done (0 to 1) between stretches; what it raises stops the work.
        """
        points = self._points
        starts = np.searchsorted(points.frame, np.arange(len(self._times_s) + 1))
        segment = -1
        for first in range(0, len(self._times_s), _FRAMES_AT_ONCE):
            if progress is not None:
                progress(first / len(self._times_s))
            last = min(first + _FRAMES_AT_ONCE, len(self._times_s))
            low, high = int(starts[first]), int(starts[last])
            # Lists of plain numbers are faster than arrays of a few; a stretch at a time bounds the memory.
            places = np.concatenate([points.position_m[low:high], points.variance_m2[low:high]], axis=1).tolist()
            bounds = starts[first : last + 1].tolist()
            for offset, time_s in enumerate(self._times_s[first:last].tolist()):
                begin, end = bounds[offset], bounds[offset + 1]
                if begin < end and segment != (here := int(points.segment[begin])):
                    segment = here
                    self._end_all()
                self._frame(first + offset, time_s, begin, places[begin - low : end - low])
        self._end_all()
        return _pieces(self._ended, self._doubts, points.frame)

    def _frame(self, frame: int, time_s: float, begin: int, places: list[list[float]]) -> None:
        lost = [person for person in self._active if time_s - person.last_seen_s > MAX_COAST_S]
        for person in lost:
            self._end(person)
        active = self._active
        for person in active:
            person.predict(time_s)
        taken = [False] * len(places)
        if active and places:
            scores = self._scores(begin, places)
            chosen = self._choose(scores)
            self._note_doubts(frame, time_s, scores, chosen)
            for person, detection in zip(active, chosen, strict=True):
                if detection >= 0:
                    taken[detection] = True
                    self._take(person, frame, begin + detection, places[detection])
            self._count_rejected(frame, places, taken)
        for detection, place in enumerate(places):
            if not taken[detection] and not self._is_duplicate(begin, detection, taken):
                self._begin(frame, time_s, begin + detection, place)

    def _scores(self, begin: int, places: list[list[float]]) -> list[list[float]]:
        slots = [person.slot for person in self._active]
        alike = self._means[slots] @ self._shirts[begin : begin + len(places)].T
        # A person without a histogram says nothing about the shirt.
        known = alike > 0
        shirt = np.where(known, np.minimum((1 - alike) / (2 * _SHIRT_VARIANCE), _SHIRT_LIMIT), 1.0)
        base = -_NEW_DENSITY - _MISSED + 1.0
        states = np.array([(person.x, person.y, person.xpp, person.ypp) for person in self._active])
        seen = np.array(places)
        variance = states[:, None, 2:] + seen[None, :, 2:]
        distance = ((seen[None, :, :2] - states[:, None, :2]) ** 2 / variance).sum(axis=2)
        density = -0.5 * (distance + np.log(variance.prod(axis=2))) - _LOG_TWO_PI
        found: list[list[float]] = np.where(distance > GATE, -np.inf, density + base - shirt).tolist()
        return found

    @staticmethod
    def _choose(scores: list[list[float]]) -> list[int]:
        """Assign detections; without a conflict, which is usual, each person takes the only one within the gate."""
        chosen, used = [], set()
        for line in scores:
            within = [detection for detection, score in enumerate(line) if score > 0]
            if len(within) > 1 or (within and within[0] in used):
                return best_assignment(scores)
            chosen.append(within[0] if within else -1)
            used.update(within)
        return chosen

    def _note_doubts(self, frame: int, time_s: float, scores: list[list[float]], chosen: list[int]) -> None:
        for first, second in _rivals(scores, chosen):
            mine, other = chosen[first], chosen[second]
            kept = exchanged = 0.0
            if mine >= 0:
                kept += scores[first][mine]
                exchanged += scores[second][mine]
            if other >= 0:
                kept += scores[second][other]
                exchanged += scores[first][other]
            cost = kept - exchanged
            one, two = self._active[first], self._active[second]
            if (mine < 0 and one.last_frame < frame - 1) or (other < 0 and two.last_frame < frame - 1):
                cost += _STILL_HIDDEN
            if cost < _AMBIGUOUS:
                self._doubts.append(_Doubt(frame, time_s, one.number, two.number, max(cost, 0.0)))

    def _count_rejected(self, frame: int, places: list[list[float]], taken: list[bool]) -> None:
        """Count detections near a person who is not seen in this frame, but is before and after."""
        free = [place for place, used in zip(places, taken, strict=True) if not used]
        if not free:
            return
        for person in self._active:
            if person.last_frame < frame and len(person.detections) > 5:
                person.rejected += any(abs(x - person.x) < 3 and abs(y - person.y) < 3 for x, y, _, _ in free)

    def _is_duplicate(self, begin: int, detection: int, taken: list[bool]) -> bool:
        if not any(taken):
            return False
        left, top, right, bottom = self._boxes_px[begin + detection].tolist()
        for other, used in enumerate(taken):
            if not used:
                continue
            a, b, c, d = self._boxes_px[begin + other].tolist()
            common = max(min(right, c) - max(left, a), 0.0) * max(min(bottom, d) - max(top, b), 0.0)
            union = (right - left) * (bottom - top) + (c - a) * (d - b) - common
            if common > _DUPLICATE_OVERLAP * union:
                return True
        return False

    def _begin(self, frame: int, time_s: float, point: int, place: list[float]) -> None:
        if not self._free:
            count = len(self._means)
            self._means = np.concatenate([self._means, np.zeros_like(self._means)])
            self._free = list(range(2 * count - 1, count - 1, -1))
        x, y, x_variance, y_variance = place
        person = MovingPerson(self._count, self._free.pop(), time_s, (x, y, x_variance, y_variance))
        self._count += 1
        self._means[person.slot] = self._shirts[point]
        person.detections.append(point)
        person.last_frame = frame
        self._active.append(person)

    def _take(self, person: MovingPerson, frame: int, point: int, place: list[float]) -> None:
        person.update(*place)
        person.detections.append(point)
        person.last_frame = frame
        mean = self._means[person.slot]
        mean += _SHIRT_UPDATE * (self._shirts[point] - mean)

    def _end(self, person: MovingPerson) -> None:
        self._active.remove(person)
        self._free.append(person.slot)
        self._ended.append(person)

    def _end_all(self) -> None:
        for person in list(self._active):
            self._end(person)


def _rivals(scores: list[list[float]], chosen: list[int]) -> set[tuple[int, int]]:
    """Return the pairs of persons one of whom is assigned a detection that the other one may be, too."""
    return {
        (min(first, second), max(first, second))
        for first, mine in enumerate(chosen)
        if mine >= 0
        for second, line in enumerate(scores)
        if line[mine] > -math.inf and second != first
    }


def _pieces(persons: list[MovingPerson], doubts: list[_Doubt], frames: NDArray[np.int64]) -> list[Tracklet]:
    """Cut tracks at the moments of doubt, and link what comes after to both that came before."""
    cuts: dict[int, list[tuple[int, int, float]]] = defaultdict(list)
    for doubt in _moments(doubts):
        cuts[doubt.first].append((doubt.frame, doubt.second, doubt.cost))
        cuts[doubt.second].append((doubt.frame, doubt.first, doubt.cost))
    pieces: list[tuple[int, int, NDArray[np.int64]]] = []
    for person in persons:
        points = np.frombuffer(person.detections, np.int64)
        at = sorted({frame for frame, _, _ in cuts.get(person.number, ())})
        places = np.searchsorted(frames[points], at)
        bounds = [0, *places.tolist(), len(points)]
        for low, high in itertools.pairwise(bounds):
            if low < high:
                pieces.append((person.number, person.rejected if high == len(points) else 0, points[low:high]))
    pieces.sort(key=lambda piece: int(piece[2][0]))
    of_person: dict[int, list[int]] = defaultdict(list)
    for number, (person_number, _, _) in enumerate(pieces):
        of_person[person_number].append(number)
    return [
        Tracklet(points, _parents(number, pieces, of_person, cuts, frames), rejected)
        for number, (_, rejected, points) in enumerate(pieces)
    ]


def _parents(
    number: int,
    pieces: list[tuple[int, int, NDArray[np.int64]]],
    of_person: dict[int, list[int]],
    cuts: dict[int, list[tuple[int, int, float]]],
    frames: NDArray[np.int64],
) -> tuple[tuple[int, float], ...]:
    person, _, points = pieces[number]
    own = of_person[person]
    place = own.index(number)
    if place == 0:
        return ()
    before = own[place - 1]
    found = [(before, 0.0)]
    low, high = int(frames[pieces[before][2][-1]]), int(frames[points[0]])
    for frame, other, cost in cuts[person]:
        if low < frame <= high:
            earlier = [piece for piece in of_person[other] if frames[pieces[piece][2][-1]] < frame]
            later = [piece for piece in of_person[other] if frames[pieces[piece][2][0]] >= frame]
            if earlier:
                # Where both go on, each of the two pays half of the exchange.
                found.append((earlier[-1], cost / 2 if later else cost))
    return tuple(found)


def _moments(doubts: list[_Doubt]) -> list[_Doubt]:
    """Join the doubts about the same two persons at about the same time into one, at its most doubtful frame."""
    groups: dict[tuple[int, int], list[list[_Doubt]]] = defaultdict(list)
    for doubt in doubts:
        of_pair = groups[min(doubt.first, doubt.second), max(doubt.first, doubt.second)]
        if of_pair and doubt.time_s - of_pair[-1][-1].time_s < _SAME_MOMENT_S:
            of_pair[-1].append(doubt)
        else:
            of_pair.append([doubt])
    found = []
    for of_pair in groups.values():
        for group in of_pair:
            worst = min(group, key=lambda doubt: doubt.cost)
            cost = max(-math.log(sum(math.exp(-doubt.cost) for doubt in group)), 0.0)
            found.append(_Doubt(worst.frame, worst.time_s, worst.first, worst.second, cost))
    return found
