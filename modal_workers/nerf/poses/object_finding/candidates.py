"""Groups of points that may be the object, and how well each fits what the photos look at. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import ObjectChoice
from modal_workers.nerf.poses.object_finding.background_planes import BackgroundPlane
from modal_workers.nerf.poses.object_finding.boxes import box_around, inside_box
from modal_workers.nerf.poses.object_finding.foreground import Foreground
from modal_workers.nerf.poses.object_finding.point_groups import PointGroup, group_points

Integers = NDArray[np.int64]

_SMALLEST_GROUP: Final = 7
#: A plain part between two others takes at most this share of the whole height; so many groups are tried.
_PLAIN_PART: Final = 0.75
_MOST_STACKED: Final = 12
#: A part that fits nearly as well as the whole is the object.
_AS_GOOD: Final = 0.85
#: A part of an object stands beside the rest if hardly any of the rest is over it; two things are of similar size.
_OVER_SHARE: Final = 0.2
_PART_SIZE: Final = 0.45
#: What is smaller than this share of the whole is a part of one thing, such as a wheel.
_PART_OF_WHOLE: Final = 0.3
#: Radius from which on a thing is too large for photos from a distance of 1.
_LARGE: Final = 0.5
_LARGE_SPREAD: Final = 0.2
#: What floats above the table is less likely a whole object.
_FLOATING: Final = 0.5
#: Just outside of an object that stands apart are fewer points than this share of its own.
_SHELL_SHARE: Final = 0.3


@dataclass(frozen=True)
class ObjectCandidate:
    """A group of points that may be the object."""

    group: PointGroup
    box: ObjectChoice
    aim: float
    foreground: float
    #: How far it is from the next group, relative to the distances inside of it; and how empty it is around it.
    apart: float
    separation: float
    framed: float
    #: Whether it begins well above the table.
    floats: bool

    @property
    def standing(self) -> float:
        """How well it fits what the photos look at, 0..1."""
        floating = _FLOATING if self.floats else 1.0
        return self.aim * self.foreground * self.framed**2 * (0.4 + 0.6 * self.separation) * floating * self.fits

    @property
    def fits(self) -> float:
        """How likely its size is: what reaches to the cameras is no object, but all that stands around it."""
        return float(np.exp(-0.5 * (max(0.0, self.box.radius - _LARGE) / _LARGE_SPREAD) ** 2))


def find_candidates(front: Foreground, planes: Sequence[BackgroundPlane]) -> list[ObjectCandidate]:
    """Return the groups of points that may be the object, those that fit best first."""
    smallest = max(_SMALLEST_GROUP, round(0.01 * len(front.xyz)))
    total = max(1, int(front.in_middle.sum()))
    groups = group_points(front.xyz, smallest=smallest)
    candidates = [_candidate(group, front, planes, total) for group in groups]
    candidates.sort(key=lambda candidate: -candidate.standing)
    stacks = (_stacked(lower, upper, front) for lower, upper in itertools.permutations(candidates[:_MOST_STACKED], 2))
    candidates += [_candidate(group, front, planes, total) for group in stacks if group is not None]
    return sorted(candidates, key=lambda candidate: -candidate.standing)


def _candidate(group: PointGroup, front: Foreground, planes: Sequence[BackgroundPlane], total: int) -> ObjectCandidate:
    box = box_around(front.xyz[group.members], planes)
    # The crossing of handheld cameras is off by a tenth of their distance.
    off = float(np.linalg.norm(box.centre)) / (0.4 * min(box.radius, 0.4) + 0.06)
    return ObjectCandidate(
        group,
        box,
        aim=float(np.exp(-0.5 * off**2)),
        foreground=float(front.in_middle[:, group.members].sum()) / total,
        apart=(apart := max(0.0, 1.0 - group.inner / min(group.outer, 1.0))),
        separation=max(apart, _emptiness_around(front, group, box)),
        framed=float(front.framed[group.members].mean()),
        floats=_floats(box, planes),
    )


def _stacked(lower: ObjectCandidate, upper: ObjectCandidate, front: Foreground) -> PointGroup | None:
    """Return both groups as one where one is over the other: what is between them is a plain part."""
    if np.isin(upper.group.members, lower.group.members).any():
        return None
    low, high = (np.percentile(front.xyz[each.group.members, 2], [5.0, 95.0]) for each in (lower, upper))
    if not lower.box.size[2] * -0.1 < high[0] - low[1] < _PLAIN_PART * (high[1] - low[0]):
        return None
    if not (_reaches_over(lower, upper) and _reaches_over(upper, lower)):
        return None
    members = np.sort(np.concatenate([lower.group.members, upper.group.members]))
    inner, outer = max(lower.group.inner, upper.group.inner), max(lower.group.outer, upper.group.outer)
    return PointGroup(members, inner, outer)


def _floats(box: ObjectChoice, planes: Sequence[BackgroundPlane]) -> bool:
    """Return whether a box begins above every table by more than it is high by itself."""
    foot = np.array([box.centre[0], box.centre[1], box.centre[2] - box.size[2] / 2])
    heights = [float(plane.heights(foot[None])[0]) for plane in planes if plane.level]
    return bool(heights) and min(heights) > 0.3 * box.size[2] + 0.02


def _emptiness_around(front: Foreground, group: PointGroup, box: ObjectChoice) -> float:
    """Return how few other points are just outside of the box of a group, 0..1."""
    near = inside_box(box, front.xyz, 1.4, 0.03)
    near[group.members] = False
    return max(0.0, 1.0 - float(near.sum()) / (_SHELL_SHARE * len(group.members)))


def tightest(candidates: list[ObjectCandidate], front: Foreground) -> ObjectCandidate:
    """Return the best candidate without what stands beside it and adds nothing to what the photos look at."""
    best = candidates[0]
    while True:
        inner = [
            other
            for other in candidates
            if within(other, best)
            and other.standing > _AS_GOOD * best.standing
            and _stands_alone(front, other, np.setdiff1d(best.group.members, other.group.members))
        ]
        if not inner:
            return best
        best = max(inner, key=lambda candidate: candidate.standing)


def _stands_alone(front: Foreground, candidate: ObjectCandidate, others: Integers) -> bool:
    """Return whether a candidate and other points stand beside each other, each on a foot of its own.

    What begins above the middle of the other is its upper part, also where it reaches out further.
    """
    if not stands_beside(front, candidate, others):
        return False
    low, high = np.percentile(front.xyz[candidate.group.members, 2], [5.0, 95.0])
    other_low, other_high = np.percentile(front.xyz[others, 2], [5.0, 95.0])
    return bool(low < (other_low + other_high) / 2 and other_low < (low + high) / 2)


def within(part: ObjectCandidate, whole: ObjectCandidate) -> bool:
    """Return whether a group is a part of another."""
    return len(part.group.members) < len(whole.group.members) and bool(
        np.isin(part.group.members, whole.group.members).all()
    )


def stands_beside(front: Foreground, candidate: ObjectCandidate, others: Integers) -> bool:
    """Return whether other points stand beside a candidate, and not above, below or in it."""
    x, y, _ = candidate.box.size
    column = candidate.box.model_copy(update={"size": (x, y, 4.0)})
    over = inside_box(column, front.xyz[others], 1.0, 0.0)
    return float(over.mean()) < _OVER_SHARE if len(over) else False


def _reaches_over(one: ObjectCandidate, other: ObjectCandidate) -> bool:
    """Return whether the middle of a candidate is over, under or in another one, as a row of wheels is."""
    x, y, _ = one.box.size
    column = one.box.model_copy(update={"size": (x, y, 4.0)})
    return bool(inside_box(column, np.array([other.box.centre]), 1.1, 0.0)[0])


def parts_of(
    best: ObjectCandidate, candidates: list[ObjectCandidate], front: Foreground
) -> tuple[ObjectCandidate, ObjectCandidate] | None:
    """Return two parts of a candidate that stand beside each other, the most separate ones."""
    inner = [other for other in candidates if within(other, best)]
    pairs = [
        (first, second)
        for first, second in itertools.combinations(inner, 2)
        if not np.isin(first.group.members, second.group.members).any()
        and min(first.box.radius, second.box.radius) > _PART_SIZE * max(first.box.radius, second.box.radius)
        and min(first.box.radius, second.box.radius) > _PART_OF_WHOLE * best.box.radius
        and not (_reaches_over(first, second) or _reaches_over(second, first))
        and stands_beside(front, first, second.group.members)
        and stands_beside(front, second, first.group.members)
    ]
    return max(pairs, key=lambda pair: min(pair[0].apart, pair[1].apart), default=None)
