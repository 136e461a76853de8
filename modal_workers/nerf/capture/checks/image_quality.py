"""Image quality of one photo: sharpness, brightness and features."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.capture.inputs.photo import Picture

#: Long side at which sharpness is measured, and at which features are detected and matched.
SHARPNESS_SIDE_PX: Final = 1024
MATCHING_SIDE_PX: Final = 400
FEATURES: Final = 600
#: Gaussians whose gradients are compared: the loss of slope from one to the other gives the edge width.
_FINE_PX, _COARSE_PX = 1.0, 2.5
#: Edges: the pixels with the strongest slope, if they rise above noise (grey levels per pixel).
_EDGE_SHARE: Final = 0.01
_FAINT: Final = 3.0
_WIDEST_PX: Final = 12.0


@dataclass(frozen=True)
class ImageQuality:
    """Measurements of one photo; small, so that 500 of them fit in memory."""

    blur_px: float | None  # Gaussian sigma of its edges, at SHARPNESS_SIDE_PX; None without edges
    luminance: float  # mean, 0..255
    dark: float  # share of the pixels that are clipped to black, and (burnt) to white
    burnt: float
    points_px: NDArray[np.float32]  # [n, 2], at MATCHING_SIDE_PX
    descriptors: NDArray[np.float32]  # [n, 128], of unit length
    thumbnail: NDArray[np.float32]  # [24, 24] grey
    size_px: tuple[int, int]  # of the image in which the points are


def measure_quality(rgb: Picture, mask: Picture | None = None) -> ImageQuality:
    """Measure a photo [h, w, 3]; with a mask only the object counts."""
    grey = np.asarray(cv2.cvtColor(_fitted(rgb, SHARPNESS_SIDE_PX), cv2.COLOR_RGB2GRAY), np.uint8)
    size_px = (grey.shape[1], grey.shape[0])
    object_pixels = None if mask is None else _fitted(mask, SHARPNESS_SIDE_PX, exact=size_px) > 127
    small = _fitted(grey, MATCHING_SIDE_PX)
    small_mask = None if mask is None else _fitted(mask, 0, exact=(small.shape[1], small.shape[0]))
    points, descriptors = features(small, small_mask)
    values = grey if object_pixels is None or not object_pixels.any() else grey[object_pixels]
    thumbnail = cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA)
    return ImageQuality(
        blur_px=blur_px(grey),
        luminance=float(values.mean()),
        dark=float((values < 8).mean()),
        burnt=float((values > 250).mean()),
        points_px=points,
        descriptors=descriptors,
        thumbnail=np.asarray(thumbnail, np.float32),
        size_px=(small.shape[1], small.shape[0]),
    )


def save_quality(quality: ImageQuality, path: Path) -> None:
    """Write the measurements without loss."""
    width = np.nan if quality.blur_px is None else quality.blur_px
    np.savez(
        path,
        figures=np.array([width, quality.luminance, quality.dark, quality.burnt], np.float64),
        size_px=np.array(quality.size_px),
        points_px=quality.points_px,
        descriptors=quality.descriptors,
        tiny=quality.thumbnail,
    )


def load_quality(path: Path) -> ImageQuality:
    """Read what ``save_quality`` wrote."""
    with np.load(path) as kept:
        width, luminance, dark, burnt = (float(value) for value in kept["figures"])
        across, down = (int(value) for value in kept["size_px"])
        return ImageQuality(
            blur_px=None if math.isnan(width) else width,
            luminance=luminance,
            dark=dark,
            burnt=burnt,
            points_px=kept["points_px"],
            descriptors=kept["descriptors"],
            thumbnail=kept["tiny"],
            size_px=(across, down),
        )


def blur_px(grey: Picture) -> float | None:
    """Return the width of the strongest edges in the direction where they are widest; None without edges.

    A step edge of width s keeps ``sqrt((s² + b²) / (s² + a²))`` of its slope between Gaussians a and b, whatever its
    contrast; solved for s. Source: Zhuo and Sim, Defocus map estimation from a single image, Pattern Recognition 2011.
    """
    fine, coarse = (_slopes(grey, sigma) for sigma in (_FINE_PX, _COARSE_PX))
    found: list[tuple[float, float]] = []
    for steep, gentle in zip(fine, coarse, strict=True):
        count = max(24, int(steep.size * _EDGE_SHARE))
        if steep.size <= count:
            return None
        least = np.partition(steep.ravel(), -count)[-count]
        edge = steep >= max(float(least), _FAINT)
        if edge.sum() >= 24:
            found.append((float(steep[edge].mean()), float(steep[edge].sum() / max(1e-6, gentle[edge].sum()))))
    if not found:
        return None
    strongest = max(slope for slope, _ in found)
    # The worst direction counts: a moved camera leaves the edges along its motion sharp.
    ratio = min(ratio for slope, ratio in found if slope >= 0.2 * strongest)
    if ratio <= 1.0 + 1e-3:
        return _WIDEST_PX
    squared = (_COARSE_PX**2 - ratio**2 * _FINE_PX**2) / (ratio**2 - 1)
    return min(_WIDEST_PX, math.sqrt(max(0.0, squared)))


def features(grey: Picture, mask: Picture | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Detect and describe features (RootSIFT: Arandjelovic and Zisserman, CVPR 2012)."""
    found, described = cv2.SIFT.create(nfeatures=FEATURES, contrastThreshold=0.03).detectAndCompute(grey, mask)
    if not found:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    shares = described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6)
    points = np.asarray([point.pt for point in found], np.float32)
    return points, np.sqrt(shares).astype(np.float32)


def _slopes(grey: Picture, sigma_px: float) -> list[NDArray[np.float32]]:
    """Return the absolute slope along four directions after a Gaussian, in grey levels per pixel."""
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), sigma_px)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, 1 - axis, axis, scale=1 / 8) for axis in (0, 1))
    half = math.sqrt(0.5)
    inside = np.s_[4:-4, 4:-4]
    four = (across, down, (across + down) * half, (across - down) * half)
    return [np.abs(slope[inside], dtype=np.float32) for slope in four]


def _fitted(picture: Picture, side_px: int, *, exact: tuple[int, int] | None = None) -> Picture:
    height, width = picture.shape[:2]
    if exact is None:
        scale = side_px / max(height, width)
        if scale >= 1:
            return picture
        exact = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, exact, interpolation=cv2.INTER_AREA), np.uint8)
