"""Finds the object where the cameras look, with a confidence and what it rests on. Pure.

Everything is in the frame of the poses: the crossing of the optical axes is the origin, z is up, and the median
distance of the cameras is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import (
    BackgroundFigures,
    Doubt,
    FoundObject,
    ObjectChoice,
    ObjectEvidence,
)
from modal_workers.nerf.poses.colmap.model_files import SparseModel
from modal_workers.nerf.poses.object_finding.background_planes import BackgroundPlane, find_background_planes
from modal_workers.nerf.poses.object_finding.boxes import (
    all_around,
    box_around,
    from_box,
    grown,
    has_open_back,
    unseen_back,
)
from modal_workers.nerf.poses.object_finding.candidates import ObjectCandidate, find_candidates, parts_of, tightest
from modal_workers.nerf.poses.object_finding.foreground import Foreground, foreground

Floats = NDArray[np.float64]

#: Below this confidence the result is doubtful; calibrated by bench/nerf_object.py on seeds that it does not report.
DOUBTFUL_BELOW: Final = 0.7
#: So many points above the floor and behind the object tell that no wall touches it.
_BEHIND_POINTS: Final = 8
_BEHIND_GAP: Final = 0.05
#: Where as much as this share of them is this close, it may be a wall that was not recognised.
_CLOSE_BEHIND: Final = 0.4
_CLOSE_SHARE: Final = 0.3
_ABOVE_FLOOR: Final = 0.06
#: A box this many times as long as deep may hold two things; its points are counted in this many slices.
_LONG: Final = 1.5
_HEAPS: Final = 18
_HEAP: Final = 7
_EMPTY_SHARE: Final = 0.12
_FEWEST_IN_HEAPS: Final = 60
#: Or a gap of this share of its length, with so many points on both sides.
_GAP_SHARE: Final = 0.16
_FEWEST_BESIDE: Final = 6
#: Without any background, the confidence in a thing that stands apart is this share.
_NO_BACKGROUND: Final = 0.3
_BESIDE: Final = 0.05
#: Two things are meant if the second one fits by more than this share as well as the first.
_EQUAL: Final = 0.4
_ENOUGH_POINTS: Final = 80.0
#: Of the points in the middle of the photos, as many are as far away as the object, the others behind it.
_NEAR_SHARE: Final = 0.3
_ENOUGH_PHOTOS: Final = 6.0


def find_object(model: SparseModel, *, seed: int = 0) -> FoundObject:
    """Return the object of a capture whose cameras look at it."""
    planes = find_background_planes(model.xyz, model.centres, seed=seed)
    front = foreground(model, planes, seed=seed)
    candidates = find_candidates(front, planes)
    if not candidates:
        return FoundObject(
            source="cameras",
            confidence=0.0,
            doubt="no_object",
            choices=(all_around(model.xyz),),
            background=figures(planes),
        )
    return _judged(candidates, front, planes, model)


def _background_is_known(
    box: ObjectChoice, front: Foreground, model: SparseModel, planes: Sequence[BackgroundPlane]
) -> bool:
    """Return whether points show what is behind the object: a plain wall may touch it and has none."""
    if not planes or not has_open_back(model.centres) or any(not plane.level for plane in planes):
        return bool(planes)
    back = unseen_back([box], front.xyz, model.centres)
    if not back:
        return False
    behind = back[0].heights(model.xyz) < -_BEHIND_GAP
    for plane in planes:
        behind &= plane.heights(model.xyz) > _ABOVE_FLOOR
    close = behind & (back[0].heights(model.xyz) > -_CLOSE_BEHIND)
    return int(behind.sum()) >= _BEHIND_POINTS and int(close.sum()) < _CLOSE_SHARE * int(behind.sum())


def figures(planes: Sequence[BackgroundPlane]) -> tuple[BackgroundFigures, ...]:
    """Return the planes as they are reported."""
    return tuple(
        BackgroundFigures(
            normal=(float(plane.normal[0]), float(plane.normal[1]), float(plane.normal[2])),
            height=plane.height,
            gap=plane.gap,
            level=plane.level,
        )
        for plane in planes
    )


def _judged(
    candidates: list[ObjectCandidate], front: Foreground, planes: Sequence[BackgroundPlane], model: SparseModel
) -> FoundObject:
    best = tightest(candidates, front)
    members = set(best.group.members.tolist())
    rivals = [other for other in candidates[1:] if not members & set(other.group.members.tolist())]
    rival = rivals[0] if rivals else None
    inside = parts_of(best, candidates, front)
    evidence = _evidence(best, rival, inside, front, model, planes)
    confidence, weakest = _confidence(evidence)
    doubt = None if confidence >= DOUBTFUL_BELOW else weakest
    shown = _choices(best, rival, inside, doubt, front, model, planes)
    known = all(_background_is_known(choice, front, model, planes) for choice in shown)
    plain_wall = not known and has_open_back(model.centres)
    choices = tuple(grown(choice, front, plain_wall=plain_wall) for choice in shown)
    return FoundObject(
        source="cameras",
        confidence=round(confidence, 4),
        doubt=doubt,
        evidence=evidence,
        choices=choices,
        background=figures([*planes, *unseen_back(choices, front.xyz, model.centres, known=known)]),
    )


def _evidence(  # noqa: PLR0917 - all that is known
    best: ObjectCandidate,
    rival: ObjectCandidate | None,
    inside: tuple[ObjectCandidate, ObjectCandidate] | None,
    front: Foreground,
    model: SparseModel,
    planes: Sequence[BackgroundPlane],
) -> ObjectEvidence:
    # The crossing is in the object, or a little beside a thin one.
    outside = np.maximum(0.0, np.abs(from_box(best.box, np.zeros((1, 3)))[0]) - 0.5 * np.array(best.box.size))
    aim = best.aim * float(np.exp(-0.5 * (np.linalg.norm(outside) / _BESIDE) ** 2))
    alone = 1.0 if rival is None else 1.0 - rival.standing / max(best.standing, 1e-9)
    if inside is not None:
        # Two parts of one thing touch; two things stand apart by more than either is dense.
        alone = min(alone, 1.0 - 2.0 * min(part.apart for part in inside))
    alone = min(alone, 1.0 - _valley(from_box(best.box, front.xyz[best.group.members]), best.box))
    depth = 1.0
    if len(front.middle_depths):
        near = np.abs(front.middle_depths - 1.0) < best.box.radius + 0.1
        depth = min(1.0, float(near.mean()) / _NEAR_SHARE)
    members = best.group.members
    photos = int((front.observed[:, members].sum(1) >= 2).sum())
    enough = min(1.0, len(members) / _ENOUGH_POINTS) * min(1.0, photos / min(_ENOUGH_PHOTOS, 0.5 * len(model.images)))
    return ObjectEvidence(
        aim=aim,
        depth=depth,
        foreground=min(1.0, best.foreground),
        separation=best.separation
        * best.fits
        * (1.0 if _background_is_known(best.box, front, model, planes) else _NO_BACKGROUND),
        alone=max(0.0, alone),
        points=enough,
    )


def _valley(points: Floats, box: ObjectChoice) -> float:
    """Return whether hardly any point is between two heaps of points along the longer side of a long box, 0..1.

    Two things that nearly touch are one group at every distance.
    """
    x, y, _ = box.size
    long = max(x, y) / max(min(x, y), 1e-6)
    if long < _LONG:
        return 0.0
    places = np.sort(points[:, 0 if x > y else 1])
    gaps = np.diff(places[_FEWEST_BESIDE - 1 : 1 - _FEWEST_BESIDE])
    if gaps.max(initial=0.0) > _GAP_SHARE * max(x, y):
        return min(1.0, (long - _LONG) / 0.3)
    if len(points) < _FEWEST_IN_HEAPS:
        return 0.0
    heaps, _ = np.histogram(places, _HEAPS, (-0.5 * max(x, y), 0.5 * max(x, y)))
    for place in range(2, _HEAPS - 2):
        lower = float(min(heaps[:place].max(), heaps[place + 1 :].max()))
        if lower >= _HEAP and heaps[place] <= _EMPTY_SHARE * lower:
            return min(1.0, (long - _LONG) / 0.3)
    return 0.0


def _confidence(evidence: ObjectEvidence) -> tuple[float, Doubt]:
    """Return the confidence, and the doubt that the weakest evidence means."""
    parts: list[tuple[float, Doubt]] = [
        (evidence.aim, "aim_unclear"),
        (evidence.depth, "aim_unclear"),
        (evidence.foreground, "several_objects"),
        (evidence.separation, "background_close"),
        (evidence.alone, "several_objects"),
        (evidence.points, "few_points"),
    ]
    product = float(np.prod([value for value, _ in parts])) ** (1 / 2)
    return product, min(parts)[1]


def _choices(  # noqa: PLR0917 - all that is known
    best: ObjectCandidate,
    rival: ObjectCandidate | None,
    inside: tuple[ObjectCandidate, ObjectCandidate] | None,
    doubt: Doubt | None,
    front: Foreground,
    model: SparseModel,
    planes: Sequence[BackgroundPlane],
) -> tuple[ObjectChoice, ...]:
    first = named(best, "object")
    if doubt is None:
        return (first,)
    if doubt == "several_objects" and inside is not None:
        return named(best, "both"), named(inside[0], "first"), named(inside[1], "second")
    if doubt == "several_objects" and rival is not None:
        together = np.concatenate([best.group.members, rival.group.members])
        both = box_around(front.xyz[together], planes).model_copy(update={"name": "both"})
        first, second = named(best, "first"), named(rival, "second")
        return (first, both, second) if rival.standing < _EQUAL * best.standing else (both, first, second)
    return first, all_around(model.xyz)


def named(candidate: ObjectCandidate, name: str) -> ObjectChoice:
    """Return the box of a candidate under a name."""
    return candidate.box.model_copy(update={"name": name, "standing": round(min(1.0, candidate.standing), 4)})
