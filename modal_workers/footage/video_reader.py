"""Decoding of clips with real timestamps and rotation; each frame is decoded, used and dropped."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_track import open_video

Picture = NDArray[np.uint8]

MIN_DURATION_S: Final = 2.0
#: Seeking to a keyframe is faster than decoding above this distance.
SEEK_THRESHOLD_S: Final = 12.0
#: Rounding of times in containers: a frame this much outside of a span is in it.
_EDGE_S: Final = 1e-4


@dataclass(frozen=True)
class VideoSpan:
    """A part of a video file, cut exactly by time: the frames shown from ``start_s`` to ``end_s``, None: the end.

    Times of its frames are seconds from ``start_s``, which counts from the file's first frame.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None


#: A whole file, or a part of it.
VideoSource = Path | VideoSpan


@dataclass(frozen=True)
class VideoFacts:
    """Facts of one video."""

    filename: str
    width_px: int  # as shown, after rotation metadata
    height_px: int
    rotation_deg: int
    frame_count: int
    duration_s: float
    mean_rate_hz: float
    variable_rate: bool


@dataclass(frozen=True)
class DecodedFrame:
    """One decoded frame. ``grey`` [h, w] is as shown (rotation applied), at the requested size."""

    time_s: float  # from the first frame
    grey: Picture
    _decoded: av.VideoFrame
    _rotation_deg: int

    def colour(self) -> Picture:
        """Return the whole frame as BGR [H, W, 3], as shown."""
        return rotate_upright(np.asarray(self._decoded.to_ndarray(format="bgr24"), np.uint8), self._rotation_deg)

    def colour_at(self, width_px: int, height_px: int) -> Picture:
        """Return the whole frame as BGR [height_px, width_px, 3], as shown."""
        return scaled_colour(self._decoded, (width_px, height_px), self._rotation_deg)


def rotate_upright(picture: Picture, rotation_deg: int) -> Picture:
    """Rotate a stored frame as its metadata says (degrees counter-clockwise)."""
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    return np.asarray(cv2.rotate(picture, turns[rotation_deg])) if rotation_deg else picture


def scaled_colour(frame: av.VideoFrame, size_px: tuple[int, int], rotation_deg: int) -> Picture:
    """Return a stored frame as BGR of ``size_px`` (width, height), rotated as its metadata says."""
    width, height = size_px if rotation_deg % 180 == 0 else size_px[::-1]
    pixels = frame.reformat(width=width, height=height, format="bgr24", interpolation="AREA").to_ndarray()
    return rotate_upright(np.asarray(pixels, np.uint8), rotation_deg)


class VideoReader:
    """Decoder of one clip, from its start. After the loop ``facts`` and ``warnings`` hold facts and problems.

    Presentation times come from the container, with edit lists applied. Frames without one get the nominal interval;
    frames whose time would go backwards are dropped.
    """

    def __init__(
        self, source: VideoSource, name: str, *, width_px: int = 320, height_px: int = 180, rough: bool = False
    ) -> None:
        """Set up the decoder; ``name`` is for messages, ``width_px`` x ``height_px`` the size of grey frames.

        Portrait clips get the same size: the frames are distorted, which the alignment tolerates. ``rough`` skips the
        codec's deblocking, which takes a seventh of the time and is invisible at a tenth of the size.
        """
        self._rough = rough
        self._span = source if isinstance(source, VideoSpan) else VideoSpan(source)
        self.name = name
        self._size = (width_px, height_px)
        self.warnings: list[str] = []
        self.duration_s = 0.0  # as the container declares it; 0 if it does not
        self._times: _TimeStatistics = _TimeStatistics()
        self._shown = (0, 0)
        self._rotation_deg = 0
        self._container: Any = None

    @property
    def facts(self) -> VideoFacts:
        """Facts of the clip, as far as it was read."""
        seen = self._times
        return VideoFacts(
            filename=self.name,
            width_px=self._shown[0],
            height_px=self._shown[1],
            rotation_deg=self._rotation_deg,
            frame_count=seen.count,
            duration_s=seen.last_s,
            mean_rate_hz=seen.mean_rate_hz,
            variable_rate=seen.variable,
        )

    def frames(self, *, rate_hz: float = 0.0, wanted_s: Sequence[float] = ()) -> Generator[DecodedFrame]:
        """Decode at most ``rate_hz`` frames per second (0: all), or only the first at or after each of ``wanted_s``.

        ``wanted_s`` is sorted.

        Raises:
            SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE.
        """
        with self._opened() as (container, stream):
            if wanted_s:
                yield from self._at_or_after(container, stream, wanted_s)
            else:
                yield from self._paced(container, stream, rate_hz)

    def decoded(self) -> Generator[tuple[float, av.VideoFrame]]:
        """Decode every frame, with its time from the first; frames are as stored, not rotated.

        Raises:
            SaccadeError: as ``frames`` does.
        """
        with self._opened() as (container, stream):
            yield from self._decoded(container, stream)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        with open_video(self._span.path, self.name) as (container, stream):
            if self._rough:
                stream.codec_context.options = {"skip_loop_filter": "all"}
            if stream.duration and stream.time_base:
                declared_s = float(stream.duration * stream.time_base)
                end_s = declared_s if self._span.end_s is None else min(declared_s, self._span.end_s)
                self.duration_s = max(0.0, end_s - self._span.start_s)
            yield container, stream

    def _paced(self, container: Any, stream: Any, rate_hz: float) -> Iterator[DecodedFrame]:
        due = -1.0
        for time_s, frame in self._decoded(container, stream):
            if rate_hz <= 0 or time_s >= due - 1e-4:
                # the grid advances by whole steps, so that jitter does not accumulate
                due = max(due + 1 / rate_hz, time_s + 0.5 / rate_hz) if rate_hz > 0 and due >= 0 else time_s
                if rate_hz > 0 and due == time_s:
                    due = time_s + 1 / rate_hz
                yield self._frame(time_s, frame)

    def _at_or_after(self, container: Any, stream: Any, wanted_s: Sequence[float]) -> Iterator[DecodedFrame]:
        """Yield the first frame at or after each wanted time, seeking over long gaps."""
        decoded = self._decoded(container, stream)
        first = next(decoded, None)
        if first is None:
            return
        start_s = self._times.origin_s
        now, frame = first
        for want in wanted_s:
            if want - now > SEEK_THRESHOLD_S:
                container.seek(int((want + start_s) / stream.time_base), stream=stream)
                self._times.forget_order()
                decoded = self._decoded(container, stream)
            while now < want - 1e-3:
                following = next(decoded, None)
                if following is None:
                    return
                now, frame = following
            yield self._frame(now, frame)

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[float, av.VideoFrame]]:
        """Decode frames in order with their times from the clip's first frame."""
        nominal_s = 1 / float(stream.average_rate) if stream.average_rate else 1 / 30
        try:
            for stamp, frame in self._stamped(container, stream, nominal_s):
                time_s = self._times.admit(stamp, nominal_s)
                if time_s is None:
                    continue
                if self._times.count == 1:
                    self._rotation_deg = round(frame.rotation / 90) * 90 % 360
                    upright = self._rotation_deg % 180 == 0
                    self._shown = (frame.width, frame.height) if upright else (frame.height, frame.width)
                yield time_s, frame
        except (av.error.FFmpegError, OSError) as error:
            if self._times.count == 0:
                raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"No frame of {self.name} can be decoded.") from error
            self.warnings.append(f"{self.name} ends at {self._times.last_s:.1f} s; the rest cannot be decoded.")

    def _stamped(self, container: Any, stream: Any, nominal_s: float) -> Iterator[tuple[float | None, av.VideoFrame]]:
        """Decode frames with the container's times; of a span, only those in it."""
        start_s, end_s = self._span.start_s, self._span.end_s
        if not start_s and end_s is None:
            yield from ((_stamp_of(frame), frame) for frame in container.decode(stream))
            return
        stamp = -nominal_s
        for frame in self._from_start(container, stream):
            known = _stamp_of(frame)
            stamp = stamp + nominal_s if known is None else known
            offset_s = stamp - self._times.origin_s
            if end_s is not None and offset_s > end_s - start_s + _EDGE_S:
                return
            if offset_s >= -_EDGE_S:
                yield max(stamp, self._times.origin_s), frame

    def _from_start(self, container: Any, stream: Any) -> Iterator[av.VideoFrame]:
        """Decode frames from a keyframe at or before the span's start; the first call finds its origin."""
        decoded: Iterator[av.VideoFrame] = container.decode(stream)
        if self._times.has_origin or (first := next(decoded, None)) is None:
            return decoded
        first_s = _stamp_of(first)
        start_s = (first_s or 0.0) + self._span.start_s
        self._times.begin_at(start_s)
        if first_s is None or self._span.start_s <= SEEK_THRESHOLD_S:
            return chain([first], decoded)
        for target_s in (start_s, first_s):  # where the index is wrong, from the beginning
            container.seek(int(target_s / stream.time_base), stream=stream)
            decoded = container.decode(stream)
            landed = next(decoded, None)
            if landed is not None and (_stamp_of(landed) or 0.0) <= start_s:
                break
        return chain([landed] if landed is not None else [], decoded)

    def _frame(self, time_s: float, frame: av.VideoFrame) -> DecodedFrame:
        """Scale the luma of a frame. In planar YUV plane 0 is the grey image: no colour conversion is needed."""
        width, height = self._size if self._rotation_deg % 180 == 0 else self._size[::-1]
        if frame.format.name in ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12"):
            plane: Any = frame.planes[0]  # supports the buffer protocol, but its stubs do not declare it
            luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
            grey = cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA)
        else:
            grey = frame.reformat(width=width, height=height, format="gray").to_ndarray()
        return DecodedFrame(
            time_s, rotate_upright(np.asarray(grey, np.uint8), self._rotation_deg), frame, self._rotation_deg
        )

    def reject_short(self) -> None:
        """Raise if too little of the clip was decoded.

        Raises:
            SaccadeError: INPUT_UNREADABLE when nothing decoded, CLIP_TOO_SHORT.
        """
        seen = self._times
        if seen.count == 0 and seen.has_origin:
            text = f"{self.name} is empty: the video ends before it."
            raise SaccadeError(ErrorCode.CLIP_TOO_SHORT, text)
        if seen.count == 0:
            raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"No frame of {self.name} can be decoded.")
        if seen.last_s < MIN_DURATION_S:
            what = f"{seen.count} frame{'s' * (seen.count != 1)}, {seen.last_s:.1f} s"
            raise SaccadeError(ErrorCode.CLIP_TOO_SHORT, f"{self.name} has {what}; {MIN_DURATION_S:.0f} s are needed.")
        if self.duration_s - seen.last_s > max(1.0, 0.05 * self.duration_s) and not self.warnings:
            text = (
                f"{self.name} declares {self.duration_s:.1f} s but ends at {seen.last_s:.1f} s; is the file complete?"
            )
            self.warnings.append(text)


def _stamp_of(frame: av.VideoFrame) -> float | None:
    """Return the container's time of a frame in seconds."""
    return float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None


class _TimeStatistics:
    """Statistics of the presentation times of one clip, in constant memory."""

    def __init__(self) -> None:
        self.count = 0
        self.origin_s = 0.0
        self.has_origin = False
        self.last_s = 0.0
        self._ordered = False
        self._sum_squares = 0.0
        self._intervals = 0
        self._interval_sum_s = 0.0

    def admit(self, stamp_s: float | None, nominal_s: float) -> float | None:
        """Return a frame's time from the first frame; None if it would go backwards."""
        if not self.has_origin:
            self.begin_at(stamp_s or 0.0)
        time_s = self.last_s + nominal_s * (self.count > 0) if stamp_s is None else stamp_s - self.origin_s
        if self._ordered:
            interval = time_s - self.last_s
            if interval <= 0:
                return None
            self._intervals += 1
            self._interval_sum_s += interval
            self._sum_squares += interval * interval
        self._ordered = True
        self.count += 1
        self.last_s = time_s
        return time_s

    def begin_at(self, stamp_s: float) -> None:
        """Count times from here."""
        self.origin_s, self.has_origin = stamp_s, True

    def forget_order(self) -> None:
        """Accept any next time: it comes after a seek."""
        self._ordered = False

    @property
    def mean_rate_hz(self) -> float:
        """Frames per second."""
        return self._intervals / self._interval_sum_s if self._interval_sum_s > 0 else 0.0

    @property
    def variable(self) -> bool:
        """Whether intervals vary by more than a tenth, beyond rounding to milliseconds."""
        if self._intervals < 2:
            return False
        mean = self._interval_sum_s / self._intervals
        spread = np.sqrt(max(0.0, self._sum_squares / self._intervals - mean * mean))
        return bool(spread > 0.1 * mean + 0.0006)
