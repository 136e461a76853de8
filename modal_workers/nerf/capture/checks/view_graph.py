"""The capture as a graph of photos that show the same, and, roughly, from which sides they were taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.capture.checks.matching import PhotoPair

Floats = NDArray[np.float64]

#: Field of view where EXIF does not tell: focal length over the long side.
USUAL_FOCAL = 1.2
#: A gap in the round wider than this is named.
WIDE_GAP_DEG = 50.0
#: Rings of photos are apart at least this much.
_RING_DEG = 12.0
_RELIABLE = 20


def connected_components(count: int, pairs: Sequence[PhotoPair]) -> list[list[int]]:
    """Give the sets of photos that matches tie together, largest first; a photo tied to none is one of its own.

    A single tie that chance could explain does not join two sets; two such ties do.
    """
    above = list(range(count))

    def top(one: int) -> int:
        while above[one] != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    unsure: list[PhotoPair] = []
    for pair in pairs:
        if pair.surely_tied:
            above[top(pair.first)] = top(pair.second)
        elif pair.tied:
            unsure.append(pair)
    joined = True
    while joined:
        bridges = Counter(frozenset({top(pair.first), top(pair.second)}) for pair in unsure)
        joined = False
        for ends, ties in bridges.items():
            if len(ends) == 2 and ties >= 2:
                one, other = ends
                above[top(one)] = top(other)
                joined = True
    found: dict[int, list[int]] = {}
    for one in range(count):
        found.setdefault(top(one), []).append(one)
    return sorted(found.values(), key=lambda piece: (-len(piece), piece[0]))


@dataclass(frozen=True)
class ViewDirections:
    """From which side each photo of a piece was taken, in a frame that only this piece has."""

    photos: list[int]
    azimuth_deg: Floats
    elevation_deg: Floats
    coverage_deg: float
    widest_gap_deg: float
    gap_between: tuple[int, int]
    rings: int


def estimate_view_directions(
    piece: Sequence[int], pairs: Sequence[PhotoPair], sizes: Sequence[tuple[int, int]], focal: Sequence[float]
) -> ViewDirections | None:
    """Estimate the viewing directions of a piece from the rotations between its photos; None when too little ties it.

    Rotations are chained along the strongest ties, so that they are good to some ten degrees, not more.

    Args:
        piece: numbers of photos that matches tie together.
        pairs: all pairs.
        sizes: width and height of each photo, px, as matched.
        focal: focal length of each photo, px, as matched.
    """
    turned = _rotations(piece, pairs, sizes, focal)
    if len(turned) < 3:
        return None
    photos = sorted(turned)
    rotations = np.stack([turned[one] for one in photos])
    forward = rotations[:, 2]
    # Cameras are held level more often than not: up is what all of them have up.
    up = -rotations[:, 1].mean(axis=0)
    if np.linalg.norm(up) < 0.1:
        return None
    up /= np.linalg.norm(up)
    elevation = np.degrees(np.arcsin(np.clip(-forward @ up, -1, 1)))
    level = forward - np.outer(forward @ up, up)
    east = np.linalg.svd(np.eye(3) - np.outer(up, up))[0][:, 0]
    north = np.cross(up, east)
    azimuth = np.degrees(np.arctan2(level @ north, level @ east)) % 360
    order = np.argsort(azimuth)
    gaps = np.diff(np.append(azimuth[order], azimuth[order[0]] + 360))
    widest = int(gaps.argmax())
    between = photos[int(order[widest])], photos[int(order[(widest + 1) % len(order)])]
    gap = float(gaps[widest])
    return ViewDirections(photos, azimuth, elevation, 360 - gap, gap, between, _rings(elevation))


def gap_is_bridged(gap_between: tuple[int, int], pairs: Sequence[PhotoPair]) -> bool:
    """Tell whether the photos at the two edges of a gap show the same, whatever the chained rotations say."""
    return any(pair.tied and {pair.first, pair.second} == set(gap_between) for pair in pairs)


def _rotations(
    piece: Sequence[int], pairs: Sequence[PhotoPair], sizes: Sequence[tuple[int, int]], focal: Sequence[float]
) -> dict[int, Floats]:
    """Chain rotations along the maximum spanning tree of ties (Prim); camera from piece, OpenCV axes."""
    ties: dict[int, list[PhotoPair]] = {one: [] for one in piece}
    for pair in pairs:
        if pair.first in ties and pair.second in ties and pair.agreeing >= _RELIABLE:
            ties[pair.first].append(pair)
            ties[pair.second].append(pair)
    start = max(piece, key=lambda one: sum(pair.agreeing for pair in ties[one]))
    known: dict[int, Floats] = {start: np.eye(3)}
    tried: set[tuple[int, int]] = set()
    while True:
        open_ties = [
            pair
            for one in known
            for pair in ties[one]
            if (pair.first in known) != (pair.second in known) and (pair.first, pair.second) not in tried
        ]
        if not open_ties:
            return known
        best = max(open_ties, key=lambda pair: pair.agreeing)
        tried.add((best.first, best.second))
        turn = _turn(best, sizes, focal)
        if turn is None:
            continue
        if best.first in known:
            known[best.second] = turn @ known[best.first]
        else:
            known[best.first] = turn.T @ known[best.second]


def _turn(pair: PhotoPair, sizes: Sequence[tuple[int, int]], focal: Sequence[float]) -> Floats | None:
    """Give the rotation from a pair's first camera to its second."""
    rays = []
    for photo, at in ((pair.first, pair.points_px[:, :2]), (pair.second, pair.points_px[:, 2:])):
        centre = np.asarray(sizes[photo], np.float64) / 2
        rays.append(np.ascontiguousarray((at - centre) / focal[photo]))
    cv2.setRNGSeed(0)
    off = 1.5 / min(focal[pair.first], focal[pair.second])
    try:
        essential, inside = cv2.findEssentialMat(rays[0], rays[1], np.eye(3), cv2.RANSAC, 0.999, off)
        if essential is None or essential.shape != (3, 3):
            return None
        count, rotation, _, _ = cv2.recoverPose(essential, rays[0], rays[1], np.eye(3), mask=inside)
    except cv2.error:  # nothing can be made of these points
        return None
    return np.asarray(rotation, np.float64) if count >= 8 else None


def _rings(elevation_deg: Floats) -> int:
    """Count heights at which photos were taken, as far as they stand apart."""
    ordered = np.sort(elevation_deg)
    return 1 + sum(bool(above - below > _RING_DEG) for below, above in pairwise(ordered))
