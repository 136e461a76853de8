"""View graph of a capture: which photos overlap and, roughly, from which directions they were taken."""

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

#: Assumed focal length over the long side, where EXIF has none.
USUAL_FOCAL = 1.2
#: A gap around the object wider than this is reported.
WIDE_GAP_DEG = 50.0
#: Photos of one object further apart than this hardly show the same of it; the error of chained rotations included.
OVERLAP_DEG = 110.0
#: Rings of photos are at least this far apart.
_RING_DEG = 12.0
_RELIABLE = 20


def connected_components(count: int, pairs: Sequence[PhotoPair]) -> list[list[int]]:
    """Return the sets of overlapping photos, largest first; a photo without overlap is a set of its own.

    One link that chance could explain does not join two sets; two such links do.
    """
    parent = list(range(count))

    def root(photo: int) -> int:
        while parent[photo] != photo:
            parent[photo] = parent[parent[photo]]
            photo = parent[photo]
        return photo

    unsure: list[PhotoPair] = []
    for pair in pairs:
        if pair.surely_tied:
            parent[root(pair.first)] = root(pair.second)
        elif pair.tied:
            unsure.append(pair)
    joined = True
    while joined:
        bridges = Counter(frozenset({root(pair.first), root(pair.second)}) for pair in unsure)
        joined = False
        for ends, links in bridges.items():
            if len(ends) == 2 and links >= 2:
                one, other = ends
                parent[root(one)] = root(other)
                joined = True
    found: dict[int, list[int]] = {}
    for photo in range(count):
        found.setdefault(root(photo), []).append(photo)
    return sorted(found.values(), key=lambda component: (-len(component), component[0]))


@dataclass(frozen=True)
class ViewDirections:
    """Viewing directions of the photos of one component, in a frame of its own."""

    photos: list[int]
    azimuth_deg: Floats
    elevation_deg: Floats
    coverage_deg: float
    widest_gap_deg: float
    gap_between: tuple[int, int]
    rings: int


def estimate_view_directions(
    component: Sequence[int], pairs: Sequence[PhotoPair], sizes: Sequence[tuple[int, int]], focal: Sequence[float]
) -> ViewDirections | None:
    """Estimate the viewing directions of a component from relative rotations; None where too few links exist.

    Rotations are chained along the strongest links, so they are accurate to about ten degrees.

    Args:
        component: Numbers of the photos of the component.
        pairs: All pairs.
        sizes: Width and height of each photo, px, as matched.
        focal: Focal length of each photo, px, as matched.
    """
    rotation_of = _rotations(component, pairs, sizes, focal)
    if len(rotation_of) < 3:
        return None
    photos = sorted(rotation_of)
    rotations = np.stack([rotation_of[photo] for photo in photos])
    forward = rotations[:, 2]
    # Cameras are held level more often than not: up is the mean of their up vectors.
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


def gap_is_bridged(directions: ViewDirections, pairs: Sequence[PhotoPair]) -> bool:
    """Return whether the photos at both edges of the widest gap overlap, whatever the chained rotations say.

    Of photos further apart than ``OVERLAP_DEG`` a link that chance could explain does not count: those from opposite
    sides show the same room and table.
    """
    edges = set(directions.gap_between)
    links = [pair for pair in pairs if {pair.first, pair.second} == edges]
    may_overlap = directions.widest_gap_deg <= OVERLAP_DEG
    return any(pair.surely_tied or (may_overlap and pair.tied) for pair in links)


def _rotations(
    component: Sequence[int], pairs: Sequence[PhotoPair], sizes: Sequence[tuple[int, int]], focal: Sequence[float]
) -> dict[int, Floats]:
    """Chain rotations along the maximum spanning tree of the links (Prim); camera from component, OpenCV axes."""
    links: dict[int, list[PhotoPair]] = {photo: [] for photo in component}
    for pair in pairs:
        if pair.first in links and pair.second in links and pair.agreeing >= _RELIABLE:
            links[pair.first].append(pair)
            links[pair.second].append(pair)
    start = max(component, key=lambda photo: sum(pair.agreeing for pair in links[photo]))
    known: dict[int, Floats] = {start: np.eye(3)}
    tried: set[tuple[int, int]] = set()
    while True:
        open_links = [
            pair
            for photo in known
            for pair in links[photo]
            if (pair.first in known) != (pair.second in known) and (pair.first, pair.second) not in tried
        ]
        if not open_links:
            return known
        best = max(open_links, key=lambda pair: pair.agreeing)
        tried.add((best.first, best.second))
        rotation_between = _relative_rotation(best, sizes, focal)
        if rotation_between is None:
            continue
        if best.first in known:
            known[best.second] = rotation_between @ known[best.first]
        else:
            known[best.first] = rotation_between.T @ known[best.second]


def _relative_rotation(pair: PhotoPair, sizes: Sequence[tuple[int, int]], focal: Sequence[float]) -> Floats | None:
    """Return the rotation from the first camera of a pair to the second; None where it is degenerate."""
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
    except cv2.error:  # degenerate points
        return None
    return np.asarray(rotation, np.float64) if count >= 8 else None


def _rings(elevation_deg: Floats) -> int:
    """Count the distinct elevations at which photos were taken."""
    ordered = np.sort(elevation_deg)
    return 1 + sum(bool(above - below > _RING_DEG) for below, above in pairwise(ordered))
