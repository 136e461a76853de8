"""From where the photos were taken: photographed arcs of azimuth, and how far a view is from the nearest photo. Pure.

Positions are relative to the centre of the object, z up.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: First azimuth and length of an arc, degrees.
Arc = tuple[float, float]

FULL_CIRCLE: Final[tuple[Arc, ...]] = ((0.0, 360.0),)
#: A gap between neighbouring photos wider than this is open: frames there would show what no photo shows.
OPEN_GAP_DEG: Final = 60.0
#: With a gap wider than this less than half of the object is known: the photos are refused unless told otherwise.
REFUSED_GAP_DEG: Final = 200.0
#: A photo shows a point nearly as a frame does up to this angle between the two, as seen from the point.
NEARBY_DEG: Final = 30.0
#: A frame counts as seen when at least this share of its pixels was.
SEEN_SHARE: Final = 0.7
#: Length that an arc reaches beyond its outermost photos.
_MARGIN_DEG: Final = 5.0
#: A photo from higher than this shows the object from above and from no azimuth.
_HIGHEST_DEG: Final = 75.0


def photographed_arcs(positions: Floats) -> tuple[Arc, ...]:
    """Return the arcs between open gaps in the azimuths of camera positions [N, 3]; the full circle without a gap."""
    gaps, azimuths = _gaps(positions)
    after_gap = np.flatnonzero(gaps > OPEN_GAP_DEG)
    arcs = []
    for place, following in zip(after_gap, np.roll(after_gap, -1), strict=True):
        first = float(azimuths[(place + 1) % len(azimuths)])
        length = (float(azimuths[following]) - first) % 360.0
        arcs.append(((first - _MARGIN_DEG) % 360.0, length + 2 * _MARGIN_DEG))
    return tuple(sorted(arcs)) or FULL_CIRCLE


def widest_gap_deg(positions: Floats) -> float:
    """Return the widest gap in the azimuths of camera positions [N, 3]; 0 where all look from above."""
    return float(_gaps(positions)[0].max(initial=0.0))


def open_deg(arcs: tuple[Arc, ...]) -> float:
    """Return how much of the circle lies in open gaps between photos: without the margins of the arcs."""
    return sum(length + 2 * _MARGIN_DEG for _, length in open_arcs(arcs))


def open_arcs(arcs: tuple[Arc, ...]) -> list[Arc]:
    """Return what lies between the arcs."""
    if arcs == FULL_CIRCLE:
        return []
    gaps = []
    for (first, length), (following, _) in zip(arcs, (*arcs[1:], arcs[0]), strict=True):
        end = first + length
        gaps.append((end % 360.0, (following - end) % 360.0))
    return gaps


def arc_azimuth_deg(arcs: tuple[Arc, ...], step: int, steps: int) -> float:
    """Return the azimuth of one of ``steps`` places that are evenly spread over the arcs, both ends included.

    On the full circle the first place is not repeated at the end.
    """
    if arcs == FULL_CIRCLE:
        return 360.0 * step / steps
    along = sum(length for _, length in arcs) * (step / (steps - 1) if steps > 1 else 0.5)
    for first, length in arcs:
        if along <= length or (first, length) == arcs[-1]:
            return (first + along) % 360.0
        along -= length
    raise ValueError("there are no arcs")


def nearest_photo_deg(position: Floats, photos: Floats) -> float:
    """Return the angle at the origin between a position [3] and the nearest of the photos' positions [N, 3]."""
    cosines = photos @ position / np.maximum(np.linalg.norm(photos, axis=1) * np.linalg.norm(position), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosines.max(), -1.0, 1.0))))


def frame_is_seen(nearest_deg: float | None, share: float | None) -> bool | None:
    """Return whether photos show what a frame shows; None where neither measure is known."""
    if nearest_deg is None:
        return None
    return nearest_deg <= NEARBY_DEG and (share is None or share >= SEEN_SHARE)


def _gaps(positions: Floats) -> tuple[Floats, Floats]:
    """Return the sorted azimuths, and the gap after each of them."""
    level = np.linalg.norm(positions[:, :2], axis=1)
    sideways = positions[np.degrees(np.arctan2(positions[:, 2], level)) < _HIGHEST_DEG]
    azimuths = np.sort(np.degrees(np.arctan2(sideways[:, 1], sideways[:, 0])) % 360.0)
    if not len(azimuths):
        return np.zeros(0), azimuths
    return np.diff(np.append(azimuths, azimuths[0] + 360.0)), azimuths
