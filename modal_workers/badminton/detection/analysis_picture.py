"""Pictures in which persons and shuttle are looked for: upright, and no larger than detection needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import scaled_colour

Picture = NDArray[np.uint8]

#: The shuttle is 3 to 8 px wide at this size; smaller pictures lose it on the far half.
LONG_SIDE_PX: Final = 1280


@dataclass(frozen=True)
class AnalysisSize:
    """Size of the analysed pictures, and the scale from the full-size picture."""

    width_px: int
    height_px: int
    full_width_px: int
    full_height_px: int

    @classmethod
    def of(cls, full_width_px: int, full_height_px: int) -> AnalysisSize:
        """Return the size for an upright picture."""
        scale = min(1.0, LONG_SIDE_PX / max(full_width_px, full_height_px))
        width, height = (max(2, 2 * round(side * scale / 2)) for side in (full_width_px, full_height_px))
        return cls(width, height, full_width_px, full_height_px)

    def picture(self, frame: Any, rotation_deg: int) -> Picture:
        """Return a decoded frame as BGR [height, width, 3], upright."""
        return scaled_colour(frame, (self.width_px, self.height_px), rotation_deg)

    def to_full(self, points_px: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return points (…, 2) of an analysed picture in pixels of the full-size one; (0, 0) is a pixel's centre."""
        scale = np.array([self.full_width_px / self.width_px, self.full_height_px / self.height_px], np.float32)
        return np.asarray((points_px + 0.5) * scale - 0.5, np.float32)
