"""The frame at each crossing of the line, for people who check that all show the same place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import VideoReader

Picture = NDArray[np.uint8]

WIDTH_PX: Final = 480
#: Most pictures in the report; with more laps the crossings that are least certain are shown.
MAX_PICTURES: Final = 60
JPEG_QUALITY: Final = 82
LEVEL_FRAMES: Final = 9
_COLUMNS: Final = 3


def crossing_pictures(path: Path, name: str, times_s: Sequence[float], check: Callable[[], None]) -> list[Picture]:
    """Return the frames [H, WIDTH_PX, 3] BGR nearest after rising times; fewer if the video ends before the last one.

    ``check`` is called for each and may raise to stop.
    """
    found = []
    if not times_s:
        return []
    reader = VideoReader(path, name)
    for frame in reader.frames(wanted_s=list(times_s)):
        check()
        shown = reader.facts
        height = max(2, round(WIDTH_PX * shown.height_px / max(1, shown.width_px)))
        found.append(frame.colour_at(WIDTH_PX, height))
    return found


def mean_level(path: Path, name: str, duration_s: float) -> float:
    """Return the mean grey level, 0 to 255, of frames spread over a video: the median of their means."""
    wanted_s = np.linspace(0.05, 0.9, LEVEL_FRAMES) * duration_s
    return float(np.median([frame.grey.mean() for frame in VideoReader(path, name).frames(wanted_s=wanted_s.tolist())]))


def contact_sheet(pictures: Sequence[Picture], labels: Sequence[str]) -> Picture:
    """Return all pictures in rows of three, each with its label (ASCII) below."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // _COLUMNS)
    columns = min(_COLUMNS, len(pictures))
    sheet = np.full((rows * (height + 34), columns * (width + 6), 3), 24, np.uint8)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        top, left = (number // _COLUMNS) * (height + 34), (number % _COLUMNS) * (width + 6)
        sheet[top : top + height, left : left + width] = picture
        place = (left + 6, top + height + 22)
        cv2.putText(sheet, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return sheet


def jpeg(picture: Picture) -> bytes:
    """Encode a picture [H, W, 3]."""
    _, encoded = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return encoded.tobytes()
