"""Description of one clip in one pass over its frames, in memory bounded in resolution and length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_reader import DecodedFrame, VideoFacts, VideoReader, VideoSource
from modal_workers.road_video.descriptors import LENGTH, THUMBNAIL_PX, ClipDescriptors, compute_descriptor
from modal_workers.road_video.thumbnail_cache import ThumbnailCache

Picture = NDArray[np.uint8]

RATE_HZ: Final = 30.0
#: At most this many samples are kept of a clip (10 minutes at full rate); a longer one is sampled at a lower rate.
MAX_SAMPLES: Final = 18_000
#: A change below this many grey levels is noise and compression.
MIN_CHANGE_LEVELS: Final = 0.6
ACTIVITY_INTERVAL_S: Final = 0.2
FLOW_INTERVAL_S: Final = 0.1


class FlowEstimator(Protocol):
    """A measure of motion between two frames: median flow in widths."""

    def __call__(self, before: DecodedFrame, after: DecodedFrame) -> float:
        """Return the median length of the flow between two frames, as a share of the frame's width."""


class _SampleBuffer:
    """Growing buffer of the samples of one clip; every second one is dropped when it is full."""

    def __init__(self) -> None:
        self.capacity = 1024
        self.count = 0
        self.rate_hz = RATE_HZ
        self.time_s = np.empty(self.capacity)
        self.cells = np.empty((self.capacity, LENGTH), np.float16)
        self.activity = np.empty(self.capacity, np.float32)
        self.flow = np.empty(self.capacity, np.float32)

    def add(self, time_s: float, cells: NDArray[np.float16], activity: float, flow: float) -> bool:
        """Add a sample; return whether it was kept."""
        if self.count == MAX_SAMPLES:
            self._thin()
        if self.count and time_s - self.time_s[self.count - 1] < 0.6 / self.rate_hz:
            return False
        if self.count == self.capacity:
            self.capacity = min(2 * self.capacity, MAX_SAMPLES)
            for name in ("time_s", "cells", "activity", "flow"):
                old = getattr(self, name)
                grown = np.empty((self.capacity, *old.shape[1:]), old.dtype)
                grown[: self.count] = old[: self.count]
                setattr(self, name, grown)
        at = self.count
        self.time_s[at], self.cells[at], self.activity[at], self.flow[at] = time_s, cells, activity, flow
        self.count += 1
        return True

    def _thin(self) -> None:
        self.rate_hz /= 2
        kept = MAX_SAMPLES // 2
        for values in (self.time_s, self.cells, self.activity, self.flow):
            values[:kept] = values[:MAX_SAMPLES:2].copy()
        self.count = kept

    def to_descriptors(self) -> ClipDescriptors:
        part = slice(0, self.count)
        return ClipDescriptors(
            self.time_s[part].copy(), self.cells[part].copy(), self.activity[part].copy(), self.flow[part].copy()
        )


def extract_clip(
    path: VideoSource,
    name: str,
    *,
    progress: Callable[[float], None],
    flow_estimator: FlowEstimator | None = None,
    warp: NDArray[np.float64] | None = None,
    thumbnails: ThumbnailCache | None = None,
    accept_static: bool = False,
) -> tuple[VideoFacts, ClipDescriptors, tuple[str, ...]]:
    """Decode a clip once; return its facts, its descriptors and warnings.

    ``progress`` is called for every sample with the share done and may raise to stop. ``flow_estimator`` measures flow
    about ten times a second; ``warp`` [3, 3] corrects the mount; ``thumbnails`` stores the thumbnails of the samples;
    with ``accept_static`` a clip in which nothing moves is described as well.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, CLIP_TOO_SHORT, CLIP_STATIC.
    """
    reader = VideoReader(path, name, width_px=THUMBNAIL_PX[0], height_px=THUMBNAIL_PX[1], rough=True)
    samples = _SampleBuffer()
    recent: deque[tuple[float, Picture]] = deque(maxlen=16)
    before: DecodedFrame | None = None
    flow_due = 0.0
    for frame in reader.frames(rate_hz=RATE_HZ):
        small = np.asarray(cv2.resize(frame.grey, (32, 18), interpolation=cv2.INTER_AREA), np.uint8)
        flow = np.nan
        if flow_estimator is not None and before is not None and frame.time_s >= flow_due:
            flow = flow_estimator(before, frame) / (frame.time_s - before.time_s)
            flow_due = frame.time_s + FLOW_INTERVAL_S
        kept = samples.add(
            frame.time_s, compute_descriptor(frame.grey, warp), _activity(recent, frame.time_s, small), flow
        )
        if kept and thumbnails is not None:
            thumbnails.add(frame.time_s, frame.grey)
        recent.append((frame.time_s, small))
        before = frame if flow_estimator is not None else None
        progress(min(1.0, frame.time_s / reader.duration_s) if reader.duration_s > 0 else 0.0)
    reader.reject_short()
    descriptors = samples.to_descriptors()
    if not accept_static:
        reject_static(descriptors, name)
    return reader.facts, descriptors, tuple(reader.warnings)


def _activity(recent: deque[tuple[float, Picture]], time_s: float, small: Picture) -> float:
    """Return the mean absolute difference, in grey levels, to the thumbnail about ``ACTIVITY_INTERVAL_S`` before."""
    for earlier_s, earlier in reversed(recent):
        if time_s - earlier_s >= ACTIVITY_INTERVAL_S - 1e-3:
            return float(np.mean(cv2.absdiff(small, earlier)))
    return float(np.mean(cv2.absdiff(small, recent[0][1]))) if recent else 0.0


def reject_static(descriptors: ClipDescriptors, name: str) -> None:
    """Raise if almost nothing in a clip moves.

    Raises:
        SaccadeError: CLIP_STATIC.
    """
    if is_static(descriptors):
        still = f"{100 * (1 - moving_share(descriptors)):.0f} % of {name} is a still picture."
        raise SaccadeError(ErrorCode.CLIP_STATIC, still)


def is_static(descriptors: ClipDescriptors) -> bool:
    """Return whether almost nothing in a clip moves."""
    share = moving_share(descriptors)
    return bool(share * descriptors.time_s[-1] < 1.0 or share < 0.05)


def moving_share(descriptors: ClipDescriptors) -> float:
    """Return the share of a clip's samples at which the picture changes."""
    return float(np.mean(descriptors.activity > MIN_CHANGE_LEVELS))
