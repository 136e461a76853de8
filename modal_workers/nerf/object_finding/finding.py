"""Finds the object where the cameras look, with a confidence and what it rests on. Pure.

Everything is in the frame of the poses: the crossing of the optical axes is the origin, z is up, and the median
distance of the cameras is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.object_finding.background_planes import BackgroundPlane, find_background_planes
from modal_workers.nerf.object_finding.found_object import (
    BackgroundFigures,
    Doubt,
    FoundObject,
    ObjectChoice,
    ObjectEvidence,
)
from modal_workers.nerf.object_finding.point_groups import PointGroup, group_points
from modal_workers.nerf.photo_arcs import widest_gap_deg
from modal_workers.nerf.poses.colmap.model_files import SparseModel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Below this confidence the result is doubtful; calibrated by bench/nerf_object.py on seeds that it does not report.
DOUBTFUL_BELOW: Final = 0.7
#: Points further from the crossing belong to no object.
_REACH: Final = 1.0
#: Points beyond this number are left out: distances between all pairs are computed.
_MOST_POINTS: Final = 1500
_SMALLEST_GROUP: Final = 7
#: Half the width of the middle of a photo, as a share of its long side.
_MIDDLE: Final = 0.12
#: Without an object: the radius of the sphere around the crossing.
_SPHERE: Final = 0.45
#: A part that fits nearly as well as the whole is the object.
_AS_GOOD: Final = 0.85
#: A part of an object stands beside the rest if hardly any of the rest is over it; two things are of similar size.
_OVER_SHARE: Final = 0.2
_PART_SIZE: Final = 0.45
#: Radius from which on a thing is too large for photos from a distance of 1.
_LARGE: Final = 0.5
_LARGE_SPREAD: Final = 0.2
#: With a wider gap the object has a back that no photo shows; it ends this far behind its points.
_OPEN_BACK_DEG: Final = 150.0
_BACK_GAP: Final = 0.015
#: So many points above the floor and behind the object tell that no wall touches it.
_BEHIND_POINTS: Final = 8
_BEHIND_GAP: Final = 0.05
#: Where as much as this share of them is this close, it may be a wall that was not recognised.
_CLOSE_BEHIND: Final = 0.4
_CLOSE_SHARE: Final = 0.3
_ABOVE_FLOOR: Final = 0.06
#: Margins around the box, as factors of its size; the largest with hardly any other point in it is used.
_MARGINS: Final = (1.9, 1.7, 1.5, 1.35, 1.25, 1.15)
_SMALL_MARGINS: Final = 3
_OTHERS_SHARE: Final = 0.04
#: A box this many times as long as deep may hold two things; its points are counted in this many slices.
_LONG: Final = 1.5
_HEAPS: Final = 14
_FEWEST_IN_HEAPS: Final = 60
#: Without any background, the confidence in a thing that stands apart is this share.
_NO_BACKGROUND: Final = 0.3
#: A box whose points begin above the table by less than this share of its height reaches down to it.
_FOOT_SHARE: Final = 0.3
_UNKNOWN_FLOOR: Final = 0.02
#: What floats above the table is less likely a whole object.
_FLOATING: Final = 0.5
_BESIDE: Final = 0.05
#: Just outside of an object that stands apart are fewer points than this share of its own.
_SHELL_SHARE: Final = 0.3
_ENOUGH_POINTS: Final = 40.0
#: Of the points in the middle of the photos, as many are as far away as the object, the others behind it.
_NEAR_SHARE: Final = 0.3
_ENOUGH_PHOTOS: Final = 6.0


@dataclass(frozen=True)
class Foreground:
    """Points in front of all background planes and near the crossing."""

    #: Places in the model's points.
    places: Integers
    xyz: Floats
    #: [V, N] which photo observes which of them, and which has it in its middle.
    observed: Bools
    in_middle: Bools
    #: Depth of each observation in the middle of a photo, over that of the crossing.
    middle_depths: Floats
    #: Mean share of the photos that have a point inside the picture [N].
    framed: Floats


@dataclass(frozen=True)
class Candidate:
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


def foreground(model: SparseModel, planes: Sequence[BackgroundPlane], *, seed: int = 0) -> Foreground:
    """Return the points that may be on the object, and how the photos show them."""
    inside = np.linalg.norm(model.xyz, axis=1) < _REACH
    for plane in planes:
        inside &= plane.heights(model.xyz) > plane.gap
    places = np.flatnonzero(inside)
    if len(places) > _MOST_POINTS:
        places = np.sort(np.random.default_rng(seed).permutation(places)[:_MOST_POINTS])
    where = np.full(len(model.xyz), -1)
    where[places] = np.arange(len(places))
    photos, points = model.observations
    observed = np.zeros((len(model.images), len(places)), bool)
    mine = where[points] >= 0
    observed[photos[mine], where[points[mine]]] = True
    in_middle, framed, depths = np.zeros_like(observed), np.zeros(len(places)), []
    for number, image in enumerate(model.images):
        u, v, depth = project(image.world_from_camera, image.camera.matrix, model.xyz[places])
        width, height = image.camera.width_px, image.camera.height_px
        middle = np.hypot(u - width / 2, v - height / 2) < _MIDDLE * max(width, height)
        in_middle[number] = observed[number] & middle & (depth > 0)
        framed += (depth > 0) & (u > 0) & (v > 0) & (u < width) & (v < height)
        seen = model.xyz[points[photos == number]]
        u, v, depth = project(image.world_from_camera, image.camera.matrix, seen)
        near = np.hypot(u - width / 2, v - height / 2) < _MIDDLE * max(width, height)
        depths.append(depth[near] / max(float(np.linalg.norm(image.centre)), 1e-6))
    return Foreground(
        places, model.xyz[places], observed, in_middle, np.concatenate(depths), framed / max(1, len(model.images))
    )


def project(world_from_camera: Floats, matrix: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Return column, row and depth of points [N, 3] in a photo without distortion."""
    local = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    depth = local[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return (
        local[:, 0] / safe * matrix[0, 0] + matrix[0, 2],
        local[:, 1] / safe * matrix[1, 1] + matrix[1, 2],
        depth,
    )


def find_candidates(front: Foreground, planes: Sequence[BackgroundPlane]) -> list[Candidate]:
    """Return the groups of points that may be the object, those that fit best first."""
    smallest = max(_SMALLEST_GROUP, round(0.01 * len(front.xyz)))
    groups = group_points(front.xyz, smallest=smallest)
    total = max(1, int(front.in_middle.sum()))
    candidates = []
    for group in groups:
        box = box_around(front.xyz[group.members], planes)
        centre = np.array(box.centre)
        # The crossing of handheld cameras is off by a tenth of their distance.
        off = float(np.linalg.norm(centre)) / (0.4 * min(box.radius, 0.4) + 0.06)
        aim = float(np.exp(-0.5 * off**2))
        share = float(front.in_middle[:, group.members].sum()) / total
        apart = max(0.0, 1.0 - group.inner / min(group.outer, 1.0))
        separation = max(apart, _emptiness_around(front, group, box))
        framed = float(front.framed[group.members].mean())
        floats = _floats(box, planes)
        candidates.append(Candidate(group, box, aim, share, apart, separation, framed, floats))
    return sorted(candidates, key=lambda candidate: -candidate.standing)


def box_around(points: Floats, planes: Sequence[BackgroundPlane] = ()) -> ObjectChoice:
    """Return the smallest box around points [N, 3] that is turned about z, without stray ones.

    It reaches down to the table that it stands on.
    """
    low_share, high_share = (2.0, 98.0) if len(points) > 50 else (0.0, 100.0)
    best, smallest = None, np.inf
    for yaw in np.linspace(0, np.pi / 2, 18, endpoint=False):
        cosine, sine = np.cos(yaw), np.sin(yaw)
        turned = np.stack([cosine * points[:, 0] + sine * points[:, 1], cosine * points[:, 1] - sine * points[:, 0]], 1)
        low, high = np.percentile(turned, [low_share, high_share], axis=0)
        area = float(np.prod(high - low + 1e-3))
        if area < smallest:
            best, smallest = (yaw, (low + high) / 2, high - low), area
    assert best is not None
    yaw, middle, size = best
    bottom, top = (float(value) for value in np.percentile(points[:, 2], [low_share, high_share]))
    x, y = (np.cos(yaw) * middle[0] - np.sin(yaw) * middle[1], np.sin(yaw) * middle[0] + np.cos(yaw) * middle[1])
    for plane in planes:
        if plane.level:
            floor = (plane.height - plane.normal[0] * x - plane.normal[1] * y) / plane.normal[2]
            if floor < bottom < floor + _FOOT_SHARE * (top - floor):
                bottom = float(floor)
                break
    if not any(plane.level for plane in planes):  # the lowest points may be on a floor that was not recognised
        bottom += min(_UNKNOWN_FLOOR, 0.1 * (top - bottom))
    return ObjectChoice(
        name="object",
        centre=(float(x), float(y), (bottom + top) / 2),
        size=(float(size[0]), float(size[1]), top - bottom),
        yaw_rad=float(yaw),
        points=len(points),
        standing=0.0,
    )


def grown(choice: ObjectChoice, front: Foreground, *, open_back: bool = False) -> ObjectChoice:
    """Return a choice with the margin that holds nothing else: plain parts of an object have no points.

    With an ``open_back`` it stays small: neither has a plain wall.
    """
    if choice.name == "all_around":
        return choice
    own = inside_box(choice, front.xyz, _MARGINS[-1], 0.01)
    for margin in _MARGINS[_SMALL_MARGINS * open_back :]:
        others = int((inside_box(choice, front.xyz, margin, 0.02) & ~own).sum())
        if others <= _OTHERS_SHARE * max(1, int(own.sum())):
            break
    return choice.model_copy(update={"margin": margin})


def all_around(points: Floats) -> ObjectChoice:
    """Return what is used where no object was found: the middle of what all photos look at."""
    side = 2 * _SPHERE / 3**0.5
    return ObjectChoice(
        name="all_around",
        centre=(0.0, 0.0, 0.0),
        size=(side, side, side),
        points=int((np.linalg.norm(points, axis=1) < _SPHERE).sum()),
        standing=0.0,
        margin=1.0,
    )


def has_open_back(cameras: Floats) -> bool:
    """Return whether the photos from these places [V, 3] leave so much open that the object has an unseen back."""
    return widest_gap_deg(cameras) > _OPEN_BACK_DEG


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


def unseen_back(boxes: Sequence[ObjectChoice], points: Floats, cameras: Floats) -> list[BackgroundPlane]:
    """Return where the back of an open arc begins: no photo shows what is behind the points there.

    Args:
        boxes: What may be meant.
        points: [N, 3] the foreground.
        cameras: [V, 3]
    """
    if not has_open_back(cameras):
        return []
    towards = cameras.mean(axis=0) * (1.0, 1.0, 0.0)
    length = float(np.linalg.norm(towards))
    held = np.zeros(len(points), bool)
    for box in boxes:
        held |= inside_box(box, points, 1.0, 0.005)
    if length < 1e-6 or not held.any():
        return []
    normal = towards / length
    height = float(np.percentile(points[held] @ normal, 1.0)) - _BACK_GAP
    return [BackgroundPlane(np.asarray(normal), height, 0.0, 0)]


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
    candidates: list[Candidate], front: Foreground, planes: Sequence[BackgroundPlane], model: SparseModel
) -> FoundObject:
    best = _tightest(candidates, front)
    members = set(best.group.members.tolist())
    rivals = [other for other in candidates[1:] if not members & set(other.group.members.tolist())]
    rival = rivals[0] if rivals else None
    inside = _parts_of(best, candidates, front)
    evidence = _evidence(best, rival, inside, front, model, planes)
    confidence, weakest = _confidence(evidence)
    doubt = None if confidence >= DOUBTFUL_BELOW else weakest
    shown = _choices(best, rival, inside, doubt, front, model, planes)
    choices = tuple(grown(choice, front, open_back=has_open_back(model.centres)) for choice in shown)
    return FoundObject(
        source="cameras",
        confidence=round(confidence, 4),
        doubt=doubt,
        evidence=evidence,
        choices=choices,
        background=figures(planes),
    )


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


def inside_box(box: ObjectChoice, points: Floats, factor: float, more: float) -> Bools:
    """Return which points [N, 3] are inside of a box that is grown by a factor and a length, but not downwards.

    What an object stands on may have no points.
    """
    local, half = from_box(box, points), 0.5 * np.array(box.size)
    inside = (np.abs(local[:, :2]) < factor * half[:2] + more).all(1) & (local[:, 2] < factor * half[2] + more)
    return np.asarray(inside & (local[:, 2] > -half[2]))


def from_box(box: ObjectChoice, points: Floats) -> Floats:
    """Return points [N, 3] from the centre of a box along its sides."""
    offset = points - np.array(box.centre)
    cosine, sine = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
    return np.stack(
        [cosine * offset[:, 0] + sine * offset[:, 1], cosine * offset[:, 1] - sine * offset[:, 0], offset[:, 2]], 1
    )


def _tightest(candidates: list[Candidate], front: Foreground) -> Candidate:
    """Return the best candidate without what stands beside it and adds nothing to what the photos look at."""
    best = candidates[0]
    while True:
        inner = [
            other
            for other in candidates
            if within(other, best)
            and other.standing > _AS_GOOD * best.standing
            and stands_beside(front, other, np.setdiff1d(best.group.members, other.group.members))
        ]
        if not inner:
            return best
        best = max(inner, key=lambda candidate: candidate.standing)


def within(part: Candidate, whole: Candidate) -> bool:
    """Return whether a group is a part of another."""
    return len(part.group.members) < len(whole.group.members) and bool(
        np.isin(part.group.members, whole.group.members).all()
    )


def stands_beside(front: Foreground, candidate: Candidate, others: Integers) -> bool:
    """Return whether other points stand beside a candidate, and not above, below or in it."""
    x, y, _ = candidate.box.size
    column = candidate.box.model_copy(update={"size": (x, y, 4.0)})
    over = inside_box(column, front.xyz[others], 1.0, 0.0)
    return float(over.mean()) < _OVER_SHARE if len(over) else False


def _parts_of(best: Candidate, candidates: list[Candidate], front: Foreground) -> tuple[Candidate, Candidate] | None:
    """Return two parts of a candidate that stand beside each other, the most separate ones."""
    inner = [other for other in candidates if within(other, best)]
    pairs = [
        (one, other)
        for index, one in enumerate(inner)
        for other in inner[index + 1 :]
        if not np.isin(one.group.members, other.group.members).any()
        and min(one.box.radius, other.box.radius) > _PART_SIZE * max(one.box.radius, other.box.radius)
        and stands_beside(front, one, other.group.members)
        and stands_beside(front, other, one.group.members)
    ]
    return max(pairs, key=lambda pair: min(pair[0].apart, pair[1].apart), default=None)


def _evidence(  # noqa: PLR0917 - all that is known
    best: Candidate,
    rival: Candidate | None,
    inside: tuple[Candidate, Candidate] | None,
    front: Foreground,
    model: SparseModel,
    planes: Sequence[BackgroundPlane],
) -> ObjectEvidence:
    # The crossing is in the object, or a little beside a thin one.
    outside = np.maximum(0.0, np.abs(from_box(best.box, np.zeros((1, 3)))[0]) - 0.5 * np.array(best.box.size))
    aim = best.aim * float(np.exp(-0.5 * (np.linalg.norm(outside) / _BESIDE) ** 2))
    alone = 1.0 if rival is None else 1.0 - rival.standing / best.standing
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
    """Return how deep the valley is between two heaps of points along the longer side of a long box, 0..1.

    Two things that nearly touch are one group at every distance.
    """
    x, y, _ = box.size
    long = max(x, y) / max(min(x, y), 1e-6)
    if long < _LONG or len(points) < _FEWEST_IN_HEAPS:
        return 0.0
    heaps, _ = np.histogram(points[:, 0 if x > y else 1], _HEAPS, (-0.5 * max(x, y), 0.5 * max(x, y)))
    valley = 0.0
    for place in range(2, _HEAPS - 2):
        lower = float(min(heaps[:place].max(), heaps[place + 1 :].max()))
        # What chance does to so few points is no valley.
        depth = (lower - 2 * lower**0.5 - heaps[place]) / max(lower, 1.0)
        valley = max(valley, depth * min(1.0, (long - _LONG) / 0.5))
    return float(min(1.0, 2 * valley))


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
    best: Candidate,
    rival: Candidate | None,
    inside: tuple[Candidate, Candidate] | None,
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
        return both, named(best, "first"), named(rival, "second")
    return first, all_around(model.xyz)


def named(candidate: Candidate, name: str) -> ObjectChoice:
    """Return the box of a candidate under a name."""
    return candidate.box.model_copy(update={"name": name, "standing": round(min(1.0, candidate.standing), 4)})
