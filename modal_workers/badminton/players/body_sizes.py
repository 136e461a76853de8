"""Heights of persons at each place of a small picture, from the court's camera."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_Y_M
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.floor_points import FOLLOWED_M, at_height, outside_m

Floats = NDArray[np.float64]

PERSON_M: Final = 1.75
_STEP_PX: Final = 4
#: Without a court: a person is at least this share of the picture's height tall, and anything taller may be one.
_LEAST_SHARE: Final = 0.07


class BodySizes:
    """Heights of persons by the place of their feet; 0 where nobody is looked for.

    ``court_size_px`` is the size of the pictures that the court's view is for, ``size_px`` that of the small ones.
    """

    def __init__(self, court: CourtView | None, court_size_px: tuple[int, int], size_px: tuple[int, int]) -> None:
        """Compute the heights on a grid."""
        self._size_px = size_px
        self._heights: Floats | None = None
        if court is None:
            return
        width, height = size_px
        # Feet may be somewhat below the picture.
        y, x = np.mgrid[0 : height + 40 : _STEP_PX, 0 : width + _STEP_PX : _STEP_PX].astype(float)
        scale = np.array([court_size_px[0] / width, court_size_px[1] / height])
        edges = np.stack([x, y], axis=-1)
        pixels = edges * scale - 0.5
        floor = court.to_court(pixels)
        plane = at_height(court, court_size_px, PERSON_M)
        heads = (plane.to_image(floor) + 0.5) / scale
        with np.errstate(invalid="ignore"):
            near = outside_m(floor) <= FOLLOWED_M
            self._heights = np.where(near, np.maximum(np.nan_to_num(edges[..., 1] - heads[..., 1]), 0.0), 0.0)
            self._behind_net = floor[..., 1] < NET_Y_M
            # Where the feet of somebody are whose head is here.
            below = plane.to_court(pixels)
            feet = (court.to_image(below) + 0.5) / scale
            self._feet = np.where(outside_m(below) <= FOLLOWED_M, feet[..., 1], np.nan)

    @property
    def known(self) -> bool:
        """Whether a court says how tall a person is; else only a least height is known."""
        return self._heights is not None

    def height_px(self, x: float, bottom: float) -> float:
        """Return the height of somebody who stands at a place."""
        if self._heights is None:
            return _LEAST_SHARE * self._size_px[1] * 2
        row, column = self._cell(x, bottom)
        return float(self._heights[row, column])

    def behind_net(self, x: float, bottom: float) -> bool:
        """Return whether somebody who stands at a place is on the far half; True without a court."""
        return self._heights is None or bool(self._behind_net[self._cell(x, bottom)])

    def foot_below_head(self, x: float, top: float) -> float | None:
        """Return where the feet are of somebody whose head is at a place; None where that is nobody near the court."""
        if self._heights is None:
            return None
        row, column = self._cell(x, top)
        foot = float(self._feet[row, column])
        return foot if np.isfinite(foot) else None

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        assert self._heights is not None
        rows, columns = self._heights.shape
        return min(max(round(y / _STEP_PX), 0), rows - 1), min(max(round(x / _STEP_PX), 0), columns - 1)
