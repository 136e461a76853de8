"""Picture of the similarity of all moments with each other: laps are lines beside the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_detection.return_map import Moments, ReturnPath

SIDE_PX: Final = 640
#: Colour (BGR) of the path that was found.
_PATH_BGR: Final = (80, 200, 255)


def similarity_map(moments: Moments, paths: Sequence[ReturnPath]) -> NDArray[np.uint8]:
    """Return the picture [S, S, 3] BGR: bright where two moments show the same place, the paths drawn above it."""
    clock_s = moments.clock_s
    index = np.linspace(0, len(clock_s) - 1, min(SIDE_PX, len(clock_s))).astype(int)
    thin = moments.vectors[index]
    level = np.clip(thin @ thin.T, 0, 1) ** 1.2 * 255
    side = (SIDE_PX, SIDE_PX)
    grey = cv2.resize(level.astype(np.uint8), side, interpolation=cv2.INTER_LINEAR)
    picture = np.asarray(cv2.applyColorMap(grey, cv2.COLORMAP_BONE), np.uint8)
    length_s = max(1e-6, float(clock_s[-1] - clock_s[0]))
    for path in paths:
        across, down = ((times - clock_s[0]) / length_s * SIDE_PX for times in (path.to_s, path.from_s))
        line = np.stack([across, down], axis=1).round().astype(np.int32)
        cv2.polylines(picture, [line], isClosed=False, color=_PATH_BGR, thickness=2, lineType=cv2.LINE_AA)
    return picture
