"""Frame descriptors: similar for the same place in two laps, different for other places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Values = NDArray[np.float32]

#: Size of the thumbnails that are described, whatever the clip's size: (width, height).
THUMBNAIL_PX: Final = (320, 180)
#: Size at which a thumbnail is described, cells across and down, and edge directions.
DESCRIBED_PX: Final = (160, 80)
CELLS: Final = (10, 5)
DIRECTIONS: Final = 8
#: Below this share of the height the car itself fills the frame.
LOWER_EDGE: Final = 0.85
LENGTH: Final = CELLS[0] * CELLS[1] * DIRECTIONS

#: Halves of the frame that are aligned separately: cells [rows, columns] of each.
IMAGE_HALVES: Final = (
    (slice(0, 5), slice(0, 5)),
    (slice(0, 5), slice(5, 10)),
)


@dataclass(frozen=True)
class ClipDescriptors:
    """The descriptors of a clip.

    Shapes: time_s [N]; cells [N, LENGTH] float16, not yet centred; activity [N] is the change of the frame in grey
    levels since about 0.2 s before; flow [N] in widths per second, NaN where not measured.
    """

    time_s: NDArray[np.float64]
    cells: NDArray[np.float16]
    activity: Values
    flow: Values

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.time_s)

    def flow_at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Interpolate the flow at other times [N]; None if it was never measured."""
        known = ~np.isnan(self.flow)
        return np.interp(time_s, self.time_s[known], self.flow[known].astype(np.float64)) if known.any() else None


def compute_descriptor(grey: Picture, warp: NDArray[np.float64] | None = None) -> NDArray[np.float16]:
    """Return the descriptor [LENGTH] of a frame [180, 320]: histograms of edge directions on a grid.

    Each cell is normalised by itself, so exposure and gamma hardly matter. ``warp`` [3, 3] maps pixels of the corrected
    frame to pixels of ``grey`` (mount correction). Source: Dalal and Triggs 2005, without blocks.
    """
    if warp is not None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        grey = np.asarray(cv2.warpPerspective(grey, warp, THUMBNAIL_PX, flags=flags, borderMode=cv2.BORDER_REPLICATE))
    upper = grey[: int(grey.shape[0] * LOWER_EDGE)]
    small = cv2.resize(upper, DESCRIBED_PX, interpolation=cv2.INTER_AREA)
    across = cv2.Sobel(small, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(small, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    part = angle * np.float32(DIRECTIONS / np.pi)
    direction = part.astype(np.uint8) % DIRECTIONS
    width, height = DESCRIBED_PX[0] // CELLS[0], DESCRIBED_PX[1] // CELLS[1]
    cell = _cell_of_pixel(width, height)
    counts = np.bincount((cell + direction).ravel(), strength.ravel(), LENGTH).astype(np.float32)
    histogram = counts.reshape(-1, DIRECTIONS) / (width * height)
    norm = np.linalg.norm(histogram, axis=1, keepdims=True)
    floor = 1e-3 + 0.2 * float(histogram.mean()) * DIRECTIONS**0.5
    return np.asarray((histogram / (norm + floor)).astype(np.float16).ravel())


_CELL_CACHE: dict[tuple[int, int], NDArray[np.int64]] = {}


def _cell_of_pixel(width: int, height: int) -> NDArray[np.int64]:
    key = (width, height)
    if key not in _CELL_CACHE:
        rows = np.arange(DESCRIBED_PX[1])[:, None] // height
        columns = np.arange(DESCRIBED_PX[0])[None] // width
        _CELL_CACHE[key] = (rows * CELLS[0] + columns) * DIRECTIONS
    return _CELL_CACHE[key]


def centred_vectors(descriptors: ClipDescriptors, mask: Values | None = None) -> Values:
    """Subtract what all frames of the clip share (the car, the sky): unit vectors [N, LENGTH], float32.

    Cells that never change have no influence, nor do those where ``mask`` [LENGTH] is 0.
    """
    cells = descriptors.cells.astype(np.float32)
    if mask is not None:
        cells *= mask
    return normalised(cells - cells.mean(axis=0))


def normalised(vectors: Values) -> Values:
    """Scale vectors [N, L] to unit length."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + np.float32(1e-6)))


def crop_vectors(vectors: Values, half: int) -> Values:
    """Return one half of the frame from unit vectors [N, LENGTH], normalised again: [N, L]."""
    rows, columns = IMAGE_HALVES[half]
    grid = vectors.reshape(len(vectors), CELLS[1], CELLS[0], DIRECTIONS)[:, rows, columns]
    flat = grid.reshape(len(vectors), -1)
    return normalised(flat)
