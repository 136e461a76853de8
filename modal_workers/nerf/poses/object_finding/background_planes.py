"""The planes behind and under the object: tables, floors and walls. Pure.

Everything is in the frame of the poses: the crossing of the optical axes is the origin, z is up, and the median
distance of the cameras is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SAMPLES: Final = 400
_MOST: Final = 4
#: Planes that are tried before there is none; those that are like one that failed are left out.
_TRIED: Final = 40
_SAME_NORMAL: Final = float(np.cos(np.radians(4.0)))
#: Side of the cubes of which one point each is used to find planes, and how many of these a plane has at least.
_CUBE: Final = 0.03
_FEWEST_THIN: Final = 10
#: Points this far from the origin or nearer are looked at.
_REACH: Final = 1.6
_TOLERANCE: Final = 0.008
_MOST_TOLERANCE: Final = 0.02
#: On a plane are more points than in a layer of twice its thickness before it; across an object they are as dense.
_CONTRAST: Final = 1.5
#: A plane has this share of the points, at least this many, and behind it hardly any.
_SHARE: Final = 0.015
_FEWEST: Final = 12
_BEHIND_SHARE: Final = 0.07
_BEHIND: Final = 3
#: The same for one point per small cube: a dense top of a thing has many points, but not more room than the floor.
_BEHIND_THIN: Final = 0.3
#: A background is wider than this around the origin's place on it, and the origin is in front of it.
_WIDE: Final = 0.25
_IN_FRONT: Final = 0.01
#: It has points on all sides of that place; the side or the top of a neighbour has none in a larger angle than this.
_ONE_SIDE_DEG: Final = 235.0
#: A table before the floor has this share of the floor's points; what has fewer is the top of the object.
_PARALLEL: Final = 0.9
_FRONT_SHARE: Final = 0.12
#: A table is higher above the floor than this; lower ones are the tops of things that stand on it.
_TABLE: Final = 0.12
#: A plane that leans by less than this from the horizontal carries the object.
_LEVEL: Final = float(np.cos(np.radians(35.0)))


@dataclass(frozen=True)
class BackgroundPlane:
    """The points with ``normal @ point > height + gap`` are in front of it; all cameras are there."""

    normal: Floats
    height: float
    #: How far its own points are from it.
    gap: float
    points: int

    @property
    def level(self) -> bool:
        """Whether it is a table or a floor."""
        return bool(self.normal[2] > _LEVEL)

    def heights(self, points: Floats) -> Floats:
        """Return how far points [N, 3] are in front of it."""
        return np.asarray(points @ self.normal - self.height)


def find_background_planes(points: Floats, cameras: Floats, *, seed: int = 0) -> list[BackgroundPlane]:
    """Return the planes with the most of the points [N, 3] that all cameras [V, 3] and the origin are in front of."""
    random = np.random.default_rng(seed)
    points = points[np.linalg.norm(points, axis=1) < _REACH]
    whole, planes = points, list[BackgroundPlane]()
    for _ in range(_MOST):
        plane = _best(points, whole, cameras, random)
        if plane is None or any(_slice_of(plane, other) for other in planes):
            break
        planes.append(plane)
        points = points[np.abs(plane.heights(points)) > plane.gap]
    return planes


def _slice_of(plane: BackgroundPlane, other: BackgroundPlane) -> bool:
    """Return whether a plane is only the flat top or front of a thing before another plane."""
    above = plane.height - other.height
    if float(plane.normal @ other.normal) < _PARALLEL or above <= 0:
        return False
    return plane.points < _FRONT_SHARE * other.points or (plane.level and above < _TABLE)


def _best(points: Floats, whole: Floats, cameras: Floats, random: np.random.Generator) -> BackgroundPlane | None:
    if len(points) < 2 * _FEWEST:
        return None
    thin = _thinned(points)
    normals, heights = _sampled(thin, random)
    # The origin is in front.
    signs = np.where(heights > 0, -1.0, 1.0)
    normals, heights = normals * signs[:, None], heights * signs
    in_front = (cameras @ normals.T > heights).mean(0) > 0.95
    usable = in_front & (heights < -_IN_FRONT)
    normals, heights = normals[usable], heights[usable]
    counts = (np.abs(thin @ normals.T - heights) < _TOLERANCE).sum(0)
    for _ in range(_TRIED):
        if not len(counts) or counts.max() < max(_FEWEST_THIN, _SHARE * len(thin)):
            return None
        choice = int(np.argmax(counts))
        plane = _refined(normals[choice], float(heights[choice]), points)
        if plane is not None and _is_background(plane, points, whole):
            return plane
        other = (normals @ normals[choice] < _SAME_NORMAL) | (np.abs(heights - heights[choice]) > 2 * _TOLERANCE)
        normals, heights, counts = normals[other], heights[other], counts[other]
    return None


def _thinned(points: Floats) -> Floats:
    """Return one of the points [N, 3] in each small cube: an object has many more than what is behind it."""
    return points[np.unique(np.floor(points / _CUBE).astype(np.int64), axis=0, return_index=True)[1]]


def _sampled(points: Floats, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Return normals [S, 3] and heights [S] of planes through points: any, upright and level ones.

    A wall with a twentieth of the points is hardly ever hit by three of them, but by two.
    """
    first, second, third = points[random.integers(0, len(points), (_SAMPLES, 3))].transpose(1, 0, 2)
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), first.shape)
    pairs = (
        (first, np.cross(second - first, third - first)),
        (first, np.cross(second - first, up)),
        (third, up),
    )
    origins, normals = (np.concatenate([pair[place] for pair in pairs]) for place in (0, 1))
    lengths = np.linalg.norm(normals, axis=1)
    kept = lengths > 1e-6
    normals = normals[kept] / lengths[kept, None]
    return normals, (normals * origins[kept]).sum(1)


def _refined(normal: Floats, height: float, points: Floats) -> BackgroundPlane | None:
    for _ in range(5):
        # Those further away, within its gap, may be on what touches it, and would pull it.
        on_plane = points[np.abs(points @ normal - height) < _TOLERANCE]
        if len(on_plane) < _FEWEST:
            return None
        middle = on_plane.mean(0)
        found = np.linalg.svd(on_plane - middle, full_matrices=False)[2][2]
        normal = found if found @ normal > 0 else -found
        height = float(normal @ middle)
    # How exact the points are is told by those behind it: before it are things that touch it.
    behind = height - points @ normal
    behind = behind[(behind > 0) & (behind < _MOST_TOLERANCE)]
    gap = max(_TOLERANCE, float(4.5 * np.median(behind))) if len(behind) else _TOLERANCE
    if gap > _MOST_TOLERANCE:
        return None
    on_plane = points[np.abs(points @ normal - height) < gap]
    return BackgroundPlane(normal, height, gap, len(on_plane))


def _is_background(plane: BackgroundPlane, points: Floats, whole: Floats) -> bool:
    """Return whether a plane is wide, and hides what would be behind it."""
    if plane.height > -_IN_FRONT:
        return False
    on_plane = points[np.abs(plane.heights(points)) < plane.gap]
    foot = plane.height * plane.normal
    spread = np.linalg.norm(on_plane - foot, axis=1)
    if np.percentile(spread, 85) < _WIDE or _widest_side_deg(on_plane - foot, plane.normal) > _ONE_SIDE_DEG:
        return False
    heights = plane.heights(_thinned(points))
    before = (heights > plane.gap) & (heights < 3 * plane.gap)
    if int((np.abs(heights) < plane.gap).sum()) < _CONTRAST * int(before.sum()):
        return False
    if _points_behind(plane, whole, float(np.percentile(spread, 70))) >= _BEHIND_SHARE * len(on_plane) + _BEHIND:
        return False
    thin = _thinned(whole)
    on_plane = thin[np.abs(plane.heights(thin)) < plane.gap]
    reach = float(np.percentile(np.linalg.norm(on_plane - foot, axis=1), 70))
    return _points_behind(plane, thin, reach) < _BEHIND_THIN * len(on_plane) + _BEHIND


def _points_behind(plane: BackgroundPlane, points: Floats, reach: float) -> int:
    """Return how many points [N, 3] are behind a plane, within a distance from the origin's place on it."""
    heights = plane.heights(points)
    along = points - np.outer(heights, plane.normal) - plane.height * plane.normal
    return int(((heights < -2 * plane.gap) & (np.linalg.norm(along, axis=1) < reach)).sum())


def _widest_side_deg(offsets: Floats, normal: Floats) -> float:
    """Return the widest angle without any of the points at these offsets [N, 3] from a place on the plane."""
    along = np.cross(normal, np.eye(3)[int(np.argmin(np.abs(normal)))])
    angles = np.sort(np.degrees(np.arctan2(offsets @ np.cross(normal, along), offsets @ along)))
    return float(np.diff(np.append(angles, angles[0] + 360.0)).max())
