"""Time in the nine zones of a player's own half: front, mid, back from the net; left, centre, right as he faces it.

The zones are thirds of the half: 2.23 m each along the court, 2.03 m each across (doubles court). A player behind a
line belongs to the zone next to it. The replaced system took thirds of the picture, where far players are always
"front" and near players always "back", whatever they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics.own_half import Floats, OwnHalf
from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_Y_M

DEPTHS: Final = ("front", "mid", "back")
WIDTHS: Final = ("left", "center", "right")
#: Boundaries from the net and from the left side line, metres.
DEPTH_EDGES_M: Final = (NET_Y_M / 3, 2 * NET_Y_M / 3)
WIDTH_EDGES_M: Final = (COURT_WIDTH_M / 3, 2 * COURT_WIDTH_M / 3)


@dataclass(frozen=True, eq=False)
class ZoneTimes:
    """Seconds in each zone: ``time_s`` [3, 3], rows front, mid, back, columns left, centre, right.

    ``camera_time_s`` is the same with left and right as the camera sees them. ``mean_from_net_m`` is NaN where no
    position is known; ``outside_s`` is the time behind a line, which is counted in the zone next to it, ``near_edge_s``
    that in which an edge between two zones is nearer than the position's own error: it may be the zone beside.
    """

    time_s: Floats
    camera_time_s: Floats
    mean_from_net_m: float
    outside_s: float
    near_edge_s: float
    position_count: int

    @property
    def total_s(self) -> float:
        """Time in all zones."""
        return float(self.time_s.sum())

    def share(self) -> Floats:
        """Return the share of each zone [3, 3]; NaN where nothing is known."""
        return self.time_s / self.total_s if self.total_s > 0 else np.full((3, 3), np.nan)


def zone_of(from_net_m: Floats, from_left_m: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of depth and width, 0 to 2; meaningless where a place is NaN."""
    return np.searchsorted(DEPTH_EDGES_M, from_net_m, side="right"), np.searchsorted(
        WIDTH_EDGES_M, from_left_m, side="right"
    )


def measure_zones(half: OwnHalf, frame_s: Floats, error_m: Floats) -> ZoneTimes:
    """Return the time in each zone.

    ``frame_s`` [N]: each frame's duration, 0 where it does not count; ``error_m`` [N]: standard deviation of its place.
    """
    known = np.isfinite(half.from_net_m) & np.isfinite(half.from_left_m) & (frame_s > 0)
    weight = frame_s[known]
    total_s = float(weight.sum())
    near_edge = _edge_distance(half.from_net_m[known], half.from_left_m[known]) < error_m[known]
    outside = (
        (half.from_net_m[known] > NET_Y_M) | (half.from_left_m[known] < 0) | (half.from_left_m[known] > COURT_WIDTH_M)
    )
    return ZoneTimes(
        time_s=_table(half.from_net_m[known], half.from_left_m[known], weight),
        camera_time_s=_table(half.from_net_m[known], half.from_camera_left_m[known], weight),
        mean_from_net_m=float(half.from_net_m[known] @ weight / total_s) if total_s > 0 else float("nan"),
        outside_s=float(weight[outside].sum()),
        near_edge_s=float(weight[near_edge].sum()),
        position_count=int(known.sum()),
    )


def _edge_distance(from_net_m: Floats, from_left_m: Floats) -> Floats:
    """Return the distance to the nearest edge between two zones."""
    places = ((from_net_m, DEPTH_EDGES_M), (from_left_m, WIDTH_EDGES_M))
    return np.asarray(np.min([np.abs(place - edge) for place, edges in places for edge in edges], axis=0))


def _table(from_net_m: Floats, from_left_m: Floats, weight_s: Floats) -> Floats:
    depth, width = zone_of(from_net_m, from_left_m)
    return np.bincount(depth * 3 + width, weights=weight_s, minlength=9).reshape(3, 3).astype(np.float64)
