"""Turns a clip into descriptors in one pass, in memory that does not grow with resolution and hardly with length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Lock
from typing import Final, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.lap_compare.clips.descriptors import LENGTH, THUMBNAIL_PX, ClipDescriptors, compute_descriptor
from modal_workers.lap_compare.clips.thumbnail_cache import ThumbnailCache
from modal_workers.lap_compare.clips.video import ClipReader, DecodedFrame
from modal_workers.lap_compare.comparison import Clip

Picture = NDArray[np.uint8]
ResultT = TypeVar("ResultT")

RATE_HZ: Final = 30.0
#: At most this many samples are kept of a clip (10 minutes at full rate); a longer one is sampled more thinly.
MAX_SAMPLES: Final = 18_000
#: Below this many grey levels of change, noise and compression are all there is.
MIN_CHANGE_LEVELS: Final = 0.6
ACTIVITY_INTERVAL_S: Final = 0.2
FLOW_INTERVAL_S: Final = 0.1


@dataclass(frozen=True)
class ClipFeatures:
    """One clip after the read stage."""

    path: Path
    clip: Clip
    description: ClipDescriptors
    #: None when it was read by an earlier run.
    pictures: ThumbnailCache | None = None


class FlowEstimator(Protocol):
    """Measures motion between two pictures: median flow in widths."""

    def __call__(self, before: DecodedFrame, after: DecodedFrame) -> float:
        """Give the median length of the flow between two frames, as a share of the picture's width."""


class _Samples:
    """Samples of one clip as they come; thinned by half whenever there are too many."""

    def __init__(self) -> None:
        self.capacity = 1024
        self.count = 0
        self.rate_hz = RATE_HZ
        self.time_s = np.empty(self.capacity)
        self.cells = np.empty((self.capacity, LENGTH), np.float16)
        self.activity = np.empty(self.capacity, np.float32)
        self.flow = np.empty(self.capacity, np.float32)

    def add(self, time_s: float, cells: NDArray[np.float16], activity: float, flow: float) -> bool:
        """Take a sample; tell whether it was wanted."""
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

    def description(self) -> ClipDescriptors:
        part = slice(0, self.count)
        return ClipDescriptors(
            self.time_s[part].copy(), self.cells[part].copy(), self.activity[part].copy(), self.flow[part].copy()
        )


def extract_pair(
    paths: tuple[Path, Path],
    names: tuple[str, str],
    motions: tuple[FlowEstimator | None, FlowEstimator | None],
    *,
    progress: Callable[[float], None],
    scratch: Path | None = None,
) -> tuple[tuple[ClipFeatures, ClipFeatures], tuple[str, ...]]:
    """Describe both clips at once; ``progress`` is called from both threads, never from two at a time.

    Given a folder ``scratch``, their pictures are kept there for the mount's correction.

    Raises:
        SaccadeError: as ``describe_clip``.
    """
    share = [0.0, 0.0]
    lock = Lock()
    ended = Event()
    kept = tuple(ThumbnailCache(scratch / f"pictures_{side}") if scratch else None for side in range(2))

    def read(side: int) -> tuple[ClipFeatures, tuple[str, ...]]:
        def advance(part: float) -> None:
            with lock:
                if ended.is_set():
                    raise _OtherClipError
                share[side] = part
                progress(0.5 * sum(share))

        try:
            clip, description, warnings = extract_clip(
                paths[side], names[side], progress=advance, motion=motions[side], keep=kept[side]
            )
        except BaseException:
            ended.set()
            raise
        finally:
            if pictures := kept[side]:
                pictures.close()
        return ClipFeatures(paths[side], clip, description, kept[side]), warnings

    first, second = run_in_parallel(lambda: read(0), lambda: read(1))
    return (first[0], second[0]), first[1] + second[1]


def extract_clip(
    path: Path,
    name: str,
    *,
    progress: Callable[[float], None],
    motion: FlowEstimator | None = None,
    warp: NDArray[np.float64] | None = None,
    keep: ThumbnailCache | None = None,
) -> tuple[Clip, ClipDescriptors, tuple[str, ...]]:
    """Decode a clip once and describe it: its facts, its description, warnings.

    ``progress`` is called for every sample with the share done and may raise to stop the work. ``motion`` measures
    flow about ten times a second; ``warp`` [3, 3] corrects the mount; ``keep`` takes the pictures of the samples.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, CLIP_TOO_SHORT, CLIP_STATIC.
    """
    reader = ClipReader(path, name, width_px=THUMBNAIL_PX[0], height_px=THUMBNAIL_PX[1], rough=True)
    samples = _Samples()
    recent: deque[tuple[float, Picture]] = deque(maxlen=16)
    before: DecodedFrame | None = None
    flow_due = 0.0
    for frame in reader.frames(rate_hz=RATE_HZ):
        small = np.asarray(cv2.resize(frame.grey, (32, 18), interpolation=cv2.INTER_AREA), np.uint8)
        flow = np.nan
        if motion is not None and before is not None and frame.time_s >= flow_due:
            flow = motion(before, frame) / (frame.time_s - before.time_s)
            flow_due = frame.time_s + FLOW_INTERVAL_S
        wanted = samples.add(
            frame.time_s, compute_descriptor(frame.grey, warp), _activity(recent, frame.time_s, small), flow
        )
        if wanted and keep is not None:
            keep.add(frame.time_s, frame.grey)
        recent.append((frame.time_s, small))
        before = frame if motion is not None else None
        progress(min(1.0, frame.time_s / reader.duration_s) if reader.duration_s > 0 else 0.0)
    reader.refuse_short()
    description = samples.description()
    reject_static(description, name)
    return reader.clip, description, tuple(reader.warnings)


def recompute_descriptors(
    described: ClipFeatures, warp: NDArray[np.float64], *, progress: Callable[[float], None]
) -> ClipDescriptors:
    """Describe a clip as if its camera were mounted otherwise, from the pictures that were kept, else from the clip.

    Raises:
        SaccadeError: as ``describe_clip``.
    """
    was = described.description
    if described.pictures is None:
        _, again, _ = extract_clip(described.path, described.clip.filename, progress=progress, warp=warp)
        return again
    cells = np.empty_like(was.cells)
    for number, grey in enumerate(described.pictures.at(was.time_s.tolist())):
        cells[number] = compute_descriptor(grey, warp)
        progress((number + 1) / len(was))
    return replace(was, cells=cells)


def _activity(recent: deque[tuple[float, Picture]], time_s: float, small: Picture) -> float:
    """Compare with the picture about ``ACTIVITY_S`` before: mean absolute difference in grey levels."""
    for earlier_s, earlier in reversed(recent):
        if time_s - earlier_s >= ACTIVITY_INTERVAL_S - 1e-3:
            return float(np.mean(cv2.absdiff(small, earlier)))
    return float(np.mean(cv2.absdiff(small, recent[0][1]))) if recent else 0.0


def reject_static(description: ClipDescriptors, name: str) -> None:
    """Refuse a clip in which next to nothing moves.

    Raises:
        SaccadeError: CLIP_STATIC.
    """
    moving_share = float(np.mean(description.activity > MIN_CHANGE_LEVELS))
    if moving_share * description.time_s[-1] < 1.0 or moving_share < 0.05:
        still = f"{100 * (1 - moving_share):.0f} % of {name} is a still picture."
        raise SaccadeError(ErrorCode.CLIP_STATIC, still)


def run_in_parallel(first: Callable[[], ResultT], second: Callable[[], ResultT]) -> tuple[ResultT, ResultT]:
    """Run two passes at once (decoding and OpenCV let go of the interpreter); the error that came about is raised."""
    with ThreadPoolExecutor(2, thread_name_prefix="clip") as pool:
        futures = (pool.submit(first), pool.submit(second))
    for future in futures:
        error = future.exception()
        if error is not None and not isinstance(error, _OtherClipError):
            raise error
    return futures[0].result(), futures[1].result()


class _OtherClipError(Exception):
    """The other clip's pass has failed; this one's result is of no use."""
