"""Streams the frames of one clip that the overlay shows, scaled and turned, a few ahead on a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.lap_compare.clips.video import ClipReader
from modal_workers.lap_compare.comparison import Floats
from modal_workers.lap_compare.rendering.yuv_image import BT601, BT709, ColourMatrix, Pixels, YuvImage

PREFETCHED_FRAMES = 6  # enough to smooth over a keyframe; at 1280 x 720 that is 8 MB


@dataclass(frozen=True)
class PanelFrame:
    """One frame of a clip: its own time, and its picture at panel size."""

    time_s: float
    picture: YuvImage


def panel_size(shown_width_px: int, shown_height_px: int, height_px: int) -> tuple[int, int]:
    """Scale a picture to a height, both sides even; one wider than 21 : 9 gets that width and is lower instead."""
    width = max(2, 2 * round(shown_width_px * height_px / max(1, shown_height_px) / 2))
    widest = 2 * round(height_px * 21 / 9 / 2)
    if width <= widest:
        return width, height_px
    return widest, max(2, 2 * round(height_px * widest / width / 2))


def colour_matrix_of(path: Path, name: str) -> ColourMatrix:
    """Tell which colour matrix a clip uses; an untagged one by its size, as players guess it.

    Raises:
        SaccadeError: INPUT_UNREADABLE, as ``shots`` does.
    """
    with closing(ClipReader(path, name).decoded()) as decoded:
        _, frame = _first(decoded, name)
        return _matrix(int(frame.colorspace), frame.height)


def _first(decoded: Iterator[tuple[float, Any]], name: str) -> tuple[float, Any]:
    first = next(decoded, None)
    if first is None:
        raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name}: no frame of it decodes.")
    return first


def _matrix(code: int, height_px: int) -> ColourMatrix:
    if code in (BT601.tag, 5):
        return BT601
    return BT601 if code not in (BT709.tag, 9, 10) and height_px < 720 else BT709


def panel_frames(
    path: Path, name: str, times_s: Floats, size: tuple[int, int], matrix: ColourMatrix
) -> Generator[PanelFrame]:
    """Give, for each of ``times_s`` (ascending), the nearest frame by the container's timestamps.

    Frames are decoded forward, once; only those shown are scaled. A frame that is nearest to several times is given
    again. Past the end of the clip the last frame stands. ``name`` is how messages call the clip.

    Raises:
        SaccadeError: INPUT_UNREADABLE.
    """
    scaler = _Scaler(size, matrix)
    decoded = ClipReader(path, name).decoded()
    held = _first(decoded, name)
    following = next(decoded, None)
    shot: PanelFrame | None = None
    for time_s in times_s:
        while following is not None and abs(following[0] - time_s) <= abs(held[0] - time_s):
            held, following = following, next(decoded, None)
        if shot is None or shot.time_s != held[0]:
            shot = PanelFrame(held[0], scaler.scale(held[1]))
        yield shot


class _Scaler:
    """Brings decoded frames to panel size in 4:2:0, limited range, one colour matrix."""

    def __init__(self, size: tuple[int, int], matrix: ColourMatrix) -> None:
        self._size, self._matrix = size, matrix
        self._reformatter = VideoReformatter()  # keeps its tables from frame to frame

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
    """Runs an iterator of shots on a thread, a few ahead; iterate it, and close it when leaving early."""

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
