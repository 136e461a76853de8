"""The court from above, small in a corner of the picture, in sync with it."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M, line_segments_m
from modal_workers.badminton.rendering.labels import Patch, Pixels
from modal_workers.badminton.rendering.palette import FLOOR, LINE, OUTLINE, PANEL, WHITE, Colour, bgr

Floats = NDArray[np.float64]

#: Floor around the lines that the inset shows.
MARGIN_M: Final = 1.0
#: Height of the inset as a share of the picture's.
HEIGHT_SHARE: Final = 0.36
#: Fixed-point bits of coordinates in OpenCV's drawing: motion below a pixel is visible.
SHIFT: Final = 4
_OVERSAMPLING: Final = 3


class MiniCourt:
    """Inset at a place of the picture."""

    def __init__(self, picture_size: tuple[int, int], margin_px: int) -> None:
        """Lay out the inset at the top right of a picture of ``picture_size`` (width, height)."""
        width_px, height_px = picture_size
        tall_m, wide_m = COURT_LENGTH_M + 2 * MARGIN_M, COURT_WIDTH_M + 2 * MARGIN_M
        self._px_per_m = min(HEIGHT_SHARE * height_px / tall_m, 0.3 * width_px / wide_m)
        self.width, self.height = round(wide_m * self._px_per_m), round(tall_m * self._px_per_m)
        self.left, self.top = width_px - self.width - margin_px, margin_px
        self._ground = self._drawn_ground()
        self.dot_px = max(3.0, 0.36 * self._px_per_m)

    def to_picture(self, position_m: NDArray[np.floating]) -> Floats:
        """Return the place in the picture of places on the court (…, 2)."""
        return (np.asarray(position_m, np.float64) + MARGIN_M) * self._px_per_m + (self.left, self.top)

    def draw_ground(self, picture: Pixels) -> None:
        """Draw the court."""
        self._ground.blend(picture, self.left, self.top)

    def draw_player(self, picture: Pixels, trail_m: NDArray[np.floating], colour: Colour) -> None:
        """Draw a player at the last place of a trail [n, 2], and the trail."""
        places = self.to_picture(trail_m)
        draw_trail(picture, places, colour, max(1.5, 0.16 * self._px_per_m))
        if np.isfinite(places[-1]).all():
            centre = fixed(places[-1])
            radius = round(self.dot_px * (1 << SHIFT))
            cv2.circle(picture, centre, radius + (1 << SHIFT), bgr(OUTLINE), -1, cv2.LINE_AA, SHIFT)
            cv2.circle(picture, centre, radius, bgr(colour), -1, cv2.LINE_AA, SHIFT)

    def draw_hit(self, picture: Pixels, position_m: NDArray[np.floating], age: float) -> None:
        """Draw a ring that widens as the age goes from 0 to 1."""
        place = self.to_picture(position_m)
        if np.isfinite(place).all():
            radius = self.dot_px * (1.3 + 1.4 * age)
            cv2.circle(picture, fixed(place), round(radius * (1 << SHIFT)), bgr(WHITE), 1, cv2.LINE_AA, SHIFT)

    def _drawn_ground(self) -> Patch:
        scale = _OVERSAMPLING * self._px_per_m

        def place(x_m: float, y_m: float) -> tuple[float, float]:
            return (x_m + MARGIN_M) * scale, (y_m + MARGIN_M) * scale

        size = (self.width * _OVERSAMPLING, self.height * _OVERSAMPLING)
        image = Image.new("RGBA", size, (*PANEL, 0))
        drawing = ImageDraw.Draw(image)
        drawing.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), 0.5 * scale, fill=(*PANEL, 205))
        drawing.rectangle((*place(0, 0), *place(COURT_WIDTH_M, COURT_LENGTH_M)), fill=(*FLOOR, 235))
        wide = max(2, round(0.07 * scale))
        for start, end in line_segments_m():
            drawing.line((*place(*start), *place(*end)), fill=(*LINE, 235), width=wide)
        drawing.line((*place(-0.3, NET_Y_M), *place(COURT_WIDTH_M + 0.3, NET_Y_M)), fill=(*WHITE, 255), width=2 * wide)
        return Patch.of_image(image.resize((self.width, self.height), Image.Resampling.BOX))


def fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    """Return a point as OpenCV takes it with ``SHIFT``."""
    return round(float(point[0]) * (1 << SHIFT)), round(float(point[1]) * (1 << SHIFT))


def draw_trail(picture: Pixels, places: NDArray[np.floating], colour: Colour, thickness_px: float) -> None:
    """Draw a path [n, 2] that grows thicker towards its end; it is broken where a place is NaN."""
    known = np.isfinite(places).all(axis=-1)
    count = len(places)
    points = np.rint(np.where(known[:, None], places, 0) * (1 << SHIFT)).astype(np.int32)
    # Three thicknesses in three calls: one call a step would take as long as the rest of the overlay.
    for part in range(3):
        first, last = part * (count - 1) // 3, (part + 1) * (count - 1) // 3
        pieces = [points[i : i + 2] for i in range(first, last) if known[i] and known[i + 1]]
        if pieces:
            thickness = max(1, round(thickness_px * (part + 1) / 3))
            shade = _mixed(colour, PANEL, 0.5 - 0.25 * part)
            cv2.polylines(picture, pieces, False, bgr(shade), thickness, cv2.LINE_AA, SHIFT)


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(c * (1 - share) + o * share) for c, o in zip(colour, other, strict=True))
    return red, green, blue
