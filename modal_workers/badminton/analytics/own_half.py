"""A player's place in the half that is his own, whichever end it is: distance from the net, and from his left side.

A player faces the net. On the near half his left is the camera's left; on the far half it is the camera's right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_Y_M

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OwnHalf:
    """Places of a player over N frames; NaN where unknown. Behind the net counts as at the net.

    ``from_net_m`` [N]; ``from_left_m`` [N] as the player sees it, and ``from_camera_left_m`` [N] as the camera does.
    """

    from_net_m: Floats
    from_left_m: Floats
    from_camera_left_m: Floats


def own_half(position_m: Floats, side: NDArray[np.int8]) -> OwnHalf:
    """Return places in the own half for places on the court [N, 2] and sides [N] (0: decided by the place)."""
    x, y = position_m[:, 0], position_m[:, 1]
    end = np.where(side != 0, side, np.where(y < NET_Y_M, -1, 1))
    from_net_m = np.maximum((y - NET_Y_M) * end, 0.0)
    return OwnHalf(from_net_m, np.where(end > 0, x, COURT_WIDTH_M - x), x + 0.0)
