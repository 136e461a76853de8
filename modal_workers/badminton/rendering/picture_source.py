"""Frames of the video as upright BGR pictures at the size of the output, by one decoding."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from modal_workers.badminton.rendering.labels import Pixels
from modal_workers.footage.video_reader import VideoReader, rotate_upright
from modal_workers.footage.yuv_image import BT601, BT709, ColourMatrix


class PictureSource:
    """Decoder of one video. ``matrix`` is known once the first picture was read."""

    def __init__(self, path: Path, name: str, size: tuple[int, int]) -> None:
        """Set up decoding at ``size`` (width, height) of the upright picture; both even."""
        self._path, self._name, self._size = path, name, size
        self.matrix: ColourMatrix = BT709

    def pictures(self) -> Generator[tuple[int, float, Pixels]]:
        """Yield number, time and picture of every frame; a picture may be drawn on.

        Raises:
            SaccadeError: the video no longer decodes.
        """
        reformatter = VideoReformatter()
        with closing(VideoReader(self._path, self._name).decoded()) as decoded:
            for number, (time_s, frame) in enumerate(decoded):
                if number == 0:
                    self.matrix = _matrix_of(frame)
                yield number, time_s, self._picture(reformatter, frame)

    def _picture(self, reformatter: Any, frame: Any) -> Pixels:
        rotation_deg = round(frame.rotation / 90) * 90 % 360
        width, height = self._size if rotation_deg % 180 == 0 else self._size[::-1]
        scaled = reformatter.reformat(
            frame,
            width,
            height,
            "yuv420p",
            src_colorspace=self.matrix.scaler,
            dst_colorspace=self.matrix.scaler,
            interpolation="BILINEAR",
            dst_color_range="MPEG",
        )
        # OpenCV converts by BT.601 here and back when the frame is written: whatever the video's matrix is, its own
        # colours come out as they went in, and only the overlay's hues shift a little.
        picture = cv2.cvtColor(np.ascontiguousarray(scaled.to_ndarray()), cv2.COLOR_YUV2BGR_I420)
        return np.ascontiguousarray(rotate_upright(np.asarray(picture, np.uint8), rotation_deg))


def encodable(picture: Pixels) -> Pixels:
    """Return a BGR picture of even size in the encoder's planes."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420), np.uint8)


def output_size(width_px: int, height_px: int, wanted_height_px: int) -> tuple[int, int]:
    """Return the size of the output: not larger than the video's, both sides even."""
    height = max(2, min(wanted_height_px, height_px) // 2 * 2)
    return max(2, round(width_px * height / max(1, height_px) / 2) * 2), height


def _matrix_of(frame: Any) -> ColourMatrix:
    """Return a frame's colour matrix; of an untagged one by its size, as players guess it."""
    code = int(frame.colorspace)
    if code in (BT601.tag, 5):
        return BT601
    return BT601 if code not in (BT709.tag, 9, 10) and frame.height < 720 else BT709
