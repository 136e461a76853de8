"""Frames of one clip for the overlay, scaled and rotated, prefetched on a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import VideoReader, VideoSource
from modal_workers.footage.yuv_image import BT601, BT709, ColourMatrix, Pixels, YuvImage
from modal_workers.lap_compare.comparison import Floats

PREFETCHED_FRAMES = 6  # enough to cover a slow keyframe; at 1280 x 720 they take 8 MB


@dataclass(frozen=True)
class PanelFrame:
    """One frame of a clip: its own time, and its image at panel size."""

    time_s: float
    image: YuvImage


def panel_size(shown_width_px: int, shown_height_px: int, height_px: int) -> tuple[int, int]:
    """Scale a size to a height, both sides even; a frame wider than 21 : 9 gets that width and less height."""
    width = max(2, 2 * round(shown_width_px * height_px / max(1, shown_height_px) / 2))
    widest = 2 * round(height_px * 21 / 9 / 2)
    if width <= widest:
        return width, height_px
    return widest, max(2, 2 * round(height_px * widest / width / 2))


def colour_matrix_of(source: VideoSource, name: str) -> ColourMatrix:
    """Return the colour matrix of a clip; of an untagged one by its size, as players guess it.

    Raises:
        SaccadeError: INPUT_UNREADABLE, as ``panel_frames`` does.
    """
    with closing(VideoReader(source, name).decoded()) as decoded:
        _, frame = _first(decoded, name)
        return _matrix(int(frame.colorspace), frame.height)


def _first(decoded: Iterator[tuple[float, Any]], name: str) -> tuple[float, Any]:
    first = next(decoded, None)
    if first is None:
        raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"No frame of {name} can be decoded.")
    return first


def _matrix(code: int, height_px: int) -> ColourMatrix:
    if code in (BT601.tag, 5):
        return BT601
    return BT601 if code not in (BT709.tag, 9, 10) and height_px < 720 else BT709


def panel_frames(
    source: VideoSource, name: str, times_s: Floats, size: tuple[int, int], matrix: ColourMatrix
) -> Generator[PanelFrame]:
    """Yield, for each of ``times_s`` (ascending), the nearest frame by the container's timestamps.

    Frames are decoded forward, once; only those shown are scaled. A frame that is nearest to several times is repeated.
    After the end of the clip the last frame is repeated. ``name`` is used in messages.

    Raises:
        SaccadeError: INPUT_UNREADABLE.
    """
    scaler = _Scaler(size, matrix)
    decoded = VideoReader(source, name).decoded()
    current = _first(decoded, name)
    following = next(decoded, None)
    shown: PanelFrame | None = None
    for time_s in times_s:
        while following is not None and abs(following[0] - time_s) <= abs(current[0] - time_s):
            current, following = following, next(decoded, None)
        if shown is None or shown.time_s != current[0]:
            shown = PanelFrame(current[0], scaler.scale(current[1]))
        yield shown


class _Scaler:
    """Scaler of decoded frames to panel size in 4:2:0, limited range, one colour matrix."""

    def __init__(self, size: tuple[int, int], matrix: ColourMatrix) -> None:
        self._size, self._matrix = size, matrix
        self._reformatter = VideoReformatter()  # reuses its tables

    def scale(self, frame: Any) -> YuvImage:
        turns = round(frame.rotation / 90) % 4  # counter-clockwise, as np.rot90 counts
        width, height = self._size if turns % 2 == 0 else self._size[::-1]
        scaled = self._reformatter.reformat(
            frame,
            width,
            height,
            "yuv420p",
            src_colorspace=_matrix(int(frame.colorspace), frame.height).scaler,
            dst_colorspace=self._matrix.scaler,
            interpolation="BILINEAR",
            dst_color_range="MPEG",
        )
        return _turned(YuvImage(_contiguous(scaled)), turns)


def _contiguous(frame: Any) -> Pixels:
    return np.ascontiguousarray(frame.to_ndarray(), dtype=np.uint8)


def _turned(picture: YuvImage, turns: int) -> YuvImage:
    if turns == 0:
        return picture
    width, height = (picture.width, picture.height) if turns == 2 else (picture.height, picture.width)
    turned = YuvImage(np.empty((height * 3 // 2, width), np.uint8))
    for target, source in ((turned.y, picture.y), (turned.u, picture.u), (turned.v, picture.v)):
        target[:] = np.rot90(source, turns)
    return turned


class FramePrefetcher:
    """Iterator of frames that a thread produces a few ahead; close it when leaving early."""

    def __init__(self, source: Generator[PanelFrame]) -> None:
        self._queue: queue.Queue[PanelFrame | BaseException | None] = queue.Queue(PREFETCHED_FRAMES)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(source,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[PanelFrame]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _work(self, source: Generator[PanelFrame]) -> None:
        try:
            with closing(source):
                for item in source:
                    self._queue.put(item)
                    if self._closed.is_set():
                        return
            self._queue.put(None)
        except Exception as error:  # noqa: BLE001 - handed to the thread that iterates
            self._queue.put(error)
