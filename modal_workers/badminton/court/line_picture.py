"""Bright thin lines of a picture: ridge points with sub-pixel places and directions, and the straight lines of them.

A ridge is brighter than the floor on both sides of it; the edge of a wall or of a mat is not. Lines of every colour
count as long as they are brighter than their floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import Floats

#: Standard deviations of the Gaussians whose second derivative finds ridges: lines of about 1 to 8 pixels.
_SCALES_PX: Final = (1.0, 2.2)
#: A ridge is at least this much brighter than both of its sides, in grey levels and in the picture's noise.
_CONTRAST: Final = 7.0
_CONTRAST_NOISE: Final = 3.5
#: Classes of direction, each with a distance map of its own.
DIRECTIONS: Final = 6
#: Distances are cut off here: what is farther away is no line of the model.
FAR_PX: Final = 5.0
_MIN_SEGMENT_PX: Final = 36
_MAX_GAP_PX: Final = 10
#: Two segments are parts of one line when both ends lie this close to the other's line.
_SAME_LINE_PX: Final = 2.5
_MAX_LINES: Final = 60

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class LinePicture:
    """Ridges of one picture at the working scale."""

    grey: Grey
    #: (n, 2) x and y, and (n,) the angle of the line there in radians, 0 to pi.
    points: Floats
    angles: Floats
    #: (n,) how much brighter than both sides they are, in grey levels.
    contrasts: Floats

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        return self.grey.shape[1], self.grey.shape[0]

    @cached_property
    def mask(self) -> Grey:
        """Ridge points as 255 on 0."""
        return self._mask_of(np.ones(len(self.points), bool))

    @cached_property
    def contrast_map(self) -> NDArray[np.float32]:
        """Contrast of the ridges and of the pixels next to them; 0 elsewhere."""
        contrasts = np.zeros(self.grey.shape, np.float32)
        places = np.round(self.points).astype(int)
        contrasts[places[:, 1], places[:, 0]] = self.contrasts
        return np.asarray(cv2.dilate(contrasts, np.ones((3, 3), np.uint8)), np.float32)

    @cached_property
    def distances(self) -> NDArray[np.float32]:
        """Distance to the next ridge of about that direction, cut off at ``FAR_PX`` (DIRECTIONS, height, width)."""
        maps = []
        place = self.angles / np.pi * DIRECTIONS
        for number in range(DIRECTIONS):
            # Each ridge belongs to its class and to the neighbour on its side.
            away = np.abs((place - number - 0.5 + DIRECTIONS / 2) % DIRECTIONS - DIRECTIONS / 2)
            distance = cv2.distanceTransform(255 - self._mask_of(away < 1.0), cv2.DIST_L2, 3)
            maps.append(np.minimum(distance, FAR_PX).astype(np.float32))
        return np.stack(maps)

    def _mask_of(self, which: NDArray[np.bool_]) -> Grey:
        mask = np.zeros(self.grey.shape, np.uint8)
        places = np.round(self.points[which]).astype(int)
        mask[places[:, 1], places[:, 0]] = 255
        return mask


@dataclass(frozen=True, eq=False)
class StraightLines:
    """Straight lines, the longest first: a x + b y + c = 0 with a² + b² = 1, and two end points of each."""

    coefficients: Floats
    ends: Floats
    #: Number of ridge points on each.
    support: Floats


def line_picture(grey: Grey) -> LinePicture:
    """Return the ridges of a grey picture, which has the working width."""
    image = grey.astype(np.float32)
    noise = float(np.median(np.abs(cv2.Laplacian(image, cv2.CV_32F)))) / 0.6745 / np.sqrt(20.0)
    contrast = max(_CONTRAST, _CONTRAST_NOISE * noise)
    points, angles, contrasts = [], [], []
    taken = np.zeros(grey.shape, np.uint8)
    for scale in _SCALES_PX:
        places, directions, brighter = _ridges(
            np.asarray(cv2.GaussianBlur(image, (0, 0), scale), np.float32), scale, contrast
        )
        free = taken[np.round(places[:, 1]).astype(int), np.round(places[:, 0]).astype(int)] == 0
        places, directions, brighter = places[free], directions[free], brighter[free]
        rounded = np.round(places).astype(int)
        taken[rounded[:, 1], rounded[:, 0]] = 1
        taken = np.asarray(cv2.dilate(taken, np.ones((5, 5), np.uint8)), np.uint8)
        points.append(places)
        angles.append(directions)
        contrasts.append(brighter)
    return LinePicture(grey, np.concatenate(points), np.concatenate(angles), np.concatenate(contrasts))


def _ridges(smooth: NDArray[np.float32], scale: float, contrast: float) -> tuple[Floats, Floats, Floats]:
    xx = cv2.Sobel(smooth, cv2.CV_32F, 2, 0, ksize=3, scale=0.25)
    yy = cv2.Sobel(smooth, cv2.CV_32F, 0, 2, ksize=3, scale=0.25)
    half_trace = 0.5 * (xx + yy)
    # Most pixels are no ridge: all else is computed for the rest only.
    candidate = half_trace < -0.12 * contrast / scale**2
    border = int(3 * scale) + 2
    candidate[:border] = candidate[-border:] = False
    candidate[:, :border] = candidate[:, -border:] = False
    rows, columns = np.nonzero(candidate)
    around = smooth[rows[:, None, None] + np.arange(-1, 2)[:, None], columns[:, None, None] + np.arange(-1, 2)]
    slope_x, slope_y = 0.5 * (around[:, 1, 2] - around[:, 1, 0]), 0.5 * (around[:, 2, 1] - around[:, 0, 1])
    mixed = 0.25 * (around[:, 2, 2] + around[:, 0, 0] - around[:, 0, 2] - around[:, 2, 0])
    second_x, second_y = xx[rows, columns], yy[rows, columns]
    root = np.sqrt(0.25 * (second_x - second_y) ** 2 + mixed**2)
    curvature = half_trace[rows, columns] - root
    # Angle of the normal: eigenvector of the most negative curvature.
    normal = 0.5 * np.arctan2(2 * mixed, second_x - second_y) + np.pi / 2
    across = np.stack([np.cos(normal), np.sin(normal)], axis=1)
    offset = -(slope_x * across[:, 0] + slope_y * across[:, 1]) / np.minimum(curvature, -1e-6)
    line_like = np.abs(half_trace[rows, columns] + root) < 0.6 * np.abs(curvature)
    kept = (np.abs(offset * across[:, 0]) <= 0.6) & (np.abs(offset * across[:, 1]) <= 0.6) & line_like
    rows, columns, across, offset = rows[kept], columns[kept], across[kept], offset[kept]
    points = np.stack([columns, rows], axis=1) + offset[:, None] * across
    centre = _sampled(smooth, points)
    reach = 2.0 * scale + 0.8
    sides = np.maximum(_sampled(smooth, points + reach * across), _sampled(smooth, points - reach * across))
    bright = centre - sides > contrast * 0.6
    brighter = (centre - sides)[bright].astype(np.float64)
    angles = (np.arctan2(across[bright, 1], across[bright, 0]) + np.pi / 2) % np.pi
    return points[bright].astype(np.float64), angles.astype(np.float64), brighter


def _sampled(image: NDArray[np.float32], points: NDArray[Any]) -> NDArray[np.float32]:
    """Return bilinear samples at points (n, 2); ``cv2.remap`` takes no more than 32767 in a row."""
    columns = np.floor(points[:, 0]).astype(int)
    rows = np.floor(points[:, 1]).astype(int)
    columns = np.clip(columns, 0, image.shape[1] - 2)
    rows = np.clip(rows, 0, image.shape[0] - 2)
    right = (points[:, 0] - columns).astype(np.float32)
    down = (points[:, 1] - rows).astype(np.float32)
    top = image[rows, columns] * (1 - right) + image[rows, columns + 1] * right
    bottom = image[rows + 1, columns] * (1 - right) + image[rows + 1, columns + 1] * right
    return np.asarray(top * (1 - down) + bottom * down)


def straight_lines(picture: LinePicture) -> StraightLines:
    """Return the straight lines through a picture's ridges."""
    found = cv2.HoughLinesP(picture.mask, 1, np.pi / 360, 24, minLineLength=_MIN_SEGMENT_PX, maxLineGap=_MAX_GAP_PX)
    if found is None:
        return StraightLines(np.zeros((0, 3)), np.zeros((0, 2, 2)), np.zeros(0))
    segments = found.reshape(-1, 2, 2).astype(np.float64)
    lengths = np.linalg.norm(segments[:, 1] - segments[:, 0], axis=1)
    segments = segments[np.argsort(-lengths)]
    free = np.ones(len(picture.points), bool)
    coefficients, ends, support = [], [], []
    for segment in segments:
        fitted = _fitted(segment, picture, free)
        if fitted is None:
            continue
        line, extent, members = fitted
        free[members] = False
        coefficients.append(line)
        ends.append(extent)
        support.append(len(members))
        if len(coefficients) == _MAX_LINES:
            break
    order = np.argsort(-np.array(support))
    return StraightLines(
        np.array(coefficients).reshape(-1, 3)[order],
        np.array(ends).reshape(-1, 2, 2)[order],
        np.array(support, float)[order],
    )


def _fitted(
    segment: Floats, picture: LinePicture, free: NDArray[np.bool_]
) -> tuple[Floats, Floats, NDArray[np.intp]] | None:
    """Return the line through the free ridge points along a segment, its ends, and the points; None if they are few."""
    along = segment[1] - segment[0]
    angle = np.arctan2(along[1], along[0]) % np.pi
    direction = along / np.linalg.norm(along)
    centre = segment.mean(axis=0)
    members = np.zeros(0, np.intp)
    turned = np.abs((picture.angles - angle + np.pi / 2) % np.pi - np.pi / 2) < np.radians(12)
    candidates = np.flatnonzero(free & turned)
    if len(candidates) < _MIN_SEGMENT_PX // 2:
        return None
    points = picture.points[candidates]
    for tolerance in (_SAME_LINE_PX, 1.5, 1.2):
        normal = np.array([-direction[1], direction[0]])
        near = np.abs((points - centre) @ normal) < tolerance
        members = candidates[near]
        if len(members) < _MIN_SEGMENT_PX // 2:
            return None
        on_line = points[near]
        centre = on_line.mean(axis=0)
        _, _, axes = np.linalg.svd(on_line - centre, full_matrices=False)
        direction = axes[0]
    places = (picture.points[members] - centre) @ direction
    line = np.array([-direction[1], direction[0], 0.0])
    line[2] = -line[:2] @ centre
    extent = centre + np.array([[places.min()], [places.max()]]) * direction
    return line, extent, members
