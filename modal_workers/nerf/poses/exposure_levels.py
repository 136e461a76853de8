"""Copies of the photos with equal contrast, in which features are found where exposures differ.

SIFT drops features below a contrast that is fixed for all photos, so that a dark photo has fewer features than its
neighbours, and others. In the copies the darkest and the brightest hundredth of each photo are black and white.
Neighbours on the simulator with exposures of ± 2 stops have a tenth more inliers so; adaptive histogram equalisation,
which amplifies noise, gave fewer than this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from modal_workers.footage.picture_decoder import decode_picture

#: Standard deviation of the logarithms of the mean brightnesses from which on exposures differ; a third of a stop.
_DIFFER: Final = 0.2
#: Percentiles of a photo that become black and white.
_BLACK: Final = 1.0
_WHITE: Final = 99.0
_JPEG_QUALITY: Final = 95


def exposures_differ(photos: Sequence[Path]) -> bool:
    """Return whether some photos are much brighter or darker than others."""
    means = [float(found.mean()) for photo in photos if (found := _grey(photo, small=True)) is not None]
    return len(means) > 1 and float(np.log(np.maximum(means, 1.0)).std()) > _DIFFER


def write_levelled(photos: Sequence[Path], folder: Path, check: Callable[[], None]) -> None:
    """Write grey copies with equal contrast under the same names; one that cannot be read is left out.

    ``check`` raises when the job was asked to stop.
    """
    folder.mkdir()
    for photo in photos:
        check()
        grey = _grey(photo)
        if grey is None:
            continue
        written, data = cv2.imencode(photo.suffix, _stretched(grey), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if written:
            (folder / photo.name).write_bytes(data.tobytes())


def _stretched(grey: np.ndarray) -> np.ndarray:
    black, white = np.percentile(grey, [_BLACK, _WHITE])
    levels = (np.arange(256) - black) * (255 / max(1.0, white - black))
    return cv2.LUT(grey, np.clip(levels, 0, 255).round().astype(np.uint8))


def _grey(photo: Path, *, small: bool = False) -> np.ndarray | None:
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_4 if small else cv2.IMREAD_GRAYSCALE
    return decode_picture(photo.read_bytes(), flags | cv2.IMREAD_IGNORE_ORIENTATION)
