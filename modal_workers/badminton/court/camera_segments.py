"""Segments of a video by its camera: where it stands still, moves or cuts, and where the picture is black.

Fed with every frame's small picture, in order; memory does not grow with the video. The camera's motion is measured
against a picture at the beginning of the segment, so that a slow drift adds up and is found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import Floats
from modal_workers.badminton.court.picture_motion import (
    Grey,
    PictureMotion,
    changed_share,
    features_of,
    is_black,
    motion_between,
)

Kind = Literal["still", "moving", "black"]

#: Long side of the pictures that are kept.
KEPT_PX: Final = 1280
#: Pictures of a still segment that are kept, spread over it.
STILL_SAMPLES: Final = 12
#: A moving segment is cut into pieces, so that its pictures can be followed as they come.
MOVING_SAMPLES: Final = 20
MOVING_INTERVAL_S: Final = 0.2
#: Distance of motion checks, and how far they look back.
_CHECK_S: Final = 0.1
_WINDOW_S: Final = 0.5
#: A camera that moved stands still again after this time: one held by hand rests for moments only.
_SETTLED_S: Final = 1.0
#: Displacement of a corner in small pixels (6 pixels of 1920) that a still camera does not exceed, from the beginning
#: of the segment, and within the window.
_STILL_PX: Final = 0.8
_MOVING_PX: Final = 0.6
#: Share of the picture that changes between two frames at a cut, at least, and as a multiple of what is usual.
_CUT_SHARE: Final = 0.22
_CUT_RATIO: Final = 3.0
#: A motion between two frames that no camera makes, as a share of the picture.
_JUMP_SHARE: Final = 0.1
#: A picture whose motion cannot be measured shows something else when this share of it has changed.
_OTHER_SCENE: Final = 0.4
#: A flash is over after this time.
_FLASH_S: Final = 0.12

PictureSource = Callable[[], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture of a segment, grey, its long side at most ``KEPT_PX``."""

    frame: int
    time_s: float
    grey: Grey


@dataclass(frozen=True, eq=False)
class CameraSegment:
    """Consecutive frames of one camera."""

    first_frame: int
    last_frame: int  # included
    start_s: float
    #: Time of the next segment's first frame; of the last segment, and of a piece of a moving one, of its own last
    #: frame.
    end_s: float
    kind: Kind
    samples: tuple[Sample, ...]
    #: Whether it goes on from the segment before without a cut.
    continues: bool
    #: Of a moving segment: the frames, and for each the motion (3x3, small pixels) since the last sample up to it, or
    #: since the segment's first frame where there is none yet.
    motion_frames: NDArray[np.int64]
    motions: Floats
    small_size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class _Frame:
    frame: int
    time_s: float
    small: Grey

    @cached_property
    def features(self) -> NDArray[np.float32]:
        return features_of(self.small)

    def motion_to(self, other: _Frame) -> PictureMotion:
        return motion_between(self.small, other.small, self.features)


@dataclass
class _Open:
    """The segment that is being fed."""

    kind: Kind
    first_frame: int
    start_s: float
    continues: bool
    #: Frame from which the motion is counted: the segment's first, or that of a moving segment's last sample.
    anchor: _Frame
    samples: list[Sample] = field(default_factory=list)
    interval_s: float = 0.4
    motion_frames: list[int] = field(default_factory=list)
    motions: list[Floats] = field(default_factory=list)


class CameraSegmenter:
    """Divides a video into camera segments while it is decoded."""

    def __init__(self) -> None:
        """Begin before the first frame."""
        self._open: _Open | None = None
        self._last: _Frame | None = None
        #: Checked frames of the last ``_SETTLED_S``.
        self._window: deque[_Frame] = deque()
        self._usual_change = 0.02
        #: A change that may be a cut: the frame before it, and the first after it.
        self._doubt: tuple[_Frame, _Frame] | None = None
        #: Whether the camera was not where it had been at the last check.
        self._left_place = False

    def feed(self, frame: int, time_s: float, small: Grey, picture: PictureSource) -> list[CameraSegment]:
        """Take the next frame's small picture; return the segments that are complete.

        ``picture`` is called for the few frames whose picture is kept, and has to return it at once.
        """
        here = _Frame(frame, time_s, small)
        last, self._last = self._last, here
        if self._open is None or last is None:
            self._begin(here, "black" if is_black(small) else "still", continues=False)
            self._sample(here, picture)
            return []
        if frame == self._open.first_frame:
            self._open.start_s = time_s
        if is_black(small) != (self._open.kind == "black"):
            closed = [self._close(last, here.time_s)]
            self._begin(here, "black" if self._open.kind != "black" else "still", continues=False)
            self._sample(here, picture)
            return closed
        if self._open.kind == "black":
            return []
        closed = self._cut(last, here)
        if self._doubt is None and not closed:
            closed = self._check_motion(here)
        if self._doubt is None:
            self._follow(here)
            self._sample(here, picture)
            closed += self._next_piece(here)
        return closed

    def finish(self) -> list[CameraSegment]:
        """Return the last segment."""
        if self._open is None or self._last is None or self._open.first_frame > self._last.frame:
            return []
        return [self._close(self._last, self._last.time_s)]

    def _begin(self, here: _Frame, kind: Kind, *, continues: bool) -> None:
        self._open = _Open(kind, here.frame, here.time_s, continues, anchor=here)
        self._doubt, self._left_place = None, False
        self._window.clear()
        self._window.append(here)

    def _close(self, last: _Frame, end_s: float) -> CameraSegment:
        assert self._open is not None
        now = self._open
        samples = tuple(sample for sample in now.samples if sample.frame <= last.frame)
        kept = [number for number, frame in enumerate(now.motion_frames) if frame <= last.frame]
        return CameraSegment(
            first_frame=now.first_frame,
            last_frame=last.frame,
            start_s=now.start_s,
            end_s=end_s,
            kind=now.kind,
            samples=samples,
            continues=now.continues,
            motion_frames=np.array([now.motion_frames[number] for number in kept], np.int64),
            motions=np.array([now.motions[number] for number in kept], float).reshape(-1, 3, 3),
            small_size=(last.small.shape[1], last.small.shape[0]),
        )

    def _cut(self, last: _Frame, here: _Frame) -> list[CameraSegment]:
        """Return the segment that ends with a cut, once it is known that the change before was no flash."""
        if self._doubt is not None:
            before, after = self._doubt
            if here.time_s - after.time_s < _FLASH_S:
                return []
            self._doubt = None
            if self._is_cut(before, here, 0.7 * _CUT_SHARE):
                closed = [self._close(before, after.time_s)]
                self._begin(after, "still", continues=False)
                return closed
            return []
        change = changed_share(last.small, here.small)
        if change > max(_CUT_SHARE, _CUT_RATIO * self._usual_change) and self._is_cut(last, here, _CUT_SHARE):
            self._doubt = (last, here)
            return []
        self._usual_change += 0.1 * (min(change, 0.5) - self._usual_change)
        return []

    @staticmethod
    def _is_cut(before: _Frame, after: _Frame, share: float) -> bool:
        motion = before.motion_to(after)
        if motion.known and motion.exceeds(_JUMP_SHARE * max(before.small.shape)):
            return True
        return changed_share(before.small, after.small, motion.matrix) > share

    def _check_motion(self, here: _Frame) -> list[CameraSegment]:
        assert self._open is not None
        if here.time_s - self._window[-1].time_s < _CHECK_S:
            return []
        self._window.append(here)
        while len(self._window) > 2 and here.time_s - self._window[1].time_s >= _SETTLED_S:
            self._window.popleft()
        if self._open.kind == "moving":
            return self._split(self._window[0], "still") if self._has_settled(here) else []
        since = self._open.anchor.motion_to(here)
        doubtful, self._left_place = self._left_place, since.exceeds(_STILL_PX)
        if not (doubtful and self._left_place):
            # Once may be a flash, or a player in front of the camera.
            return []
        start = next(frame for frame in self._window if here.time_s - frame.time_s <= _WINDOW_S)
        if start.motion_to(here).exceeds(_MOVING_PX):
            return self._split(start, "moving")
        if not since.known and changed_share(self._open.anchor.small, here.small) < _OTHER_SCENE:
            # Players cover what could be measured.
            self._open.anchor = here
            return []
        # A drift, or a picture that has become another one too slowly to be noticed within the window.
        return self._split(here, "still")

    def _has_settled(self, here: _Frame) -> bool:
        start, middle = self._window[0], self._window[len(self._window) // 2]
        if here.time_s - start.time_s < 0.9 * _SETTLED_S:
            return False
        return not (start.motion_to(here).exceeds(_MOVING_PX) or start.motion_to(middle).exceeds(_MOVING_PX))

    def _split(self, start: _Frame, kind: Kind) -> list[CameraSegment]:
        """End the segment before a frame, from which another one goes on without a cut."""
        assert self._open is not None
        later = [sample for sample in self._open.samples if sample.frame >= start.frame]
        window = [frame for frame in self._window if frame.frame >= start.frame]
        if start.frame <= self._open.first_frame:
            # Nothing is left of it: it has been the other kind from its beginning.
            self._open.kind = kind
            self._open.anchor = window[-1]
            self._open.samples = later[-1:] if kind == "moving" else later
            return []
        closed = self._close(_Frame(start.frame - 1, start.time_s, start.small), start.time_s)
        self._begin(start, kind, continues=True)
        self._window.extend(frame for frame in window if frame.frame > start.frame)
        self._open.samples = later if kind == "still" else []
        return [closed]

    def _follow(self, here: _Frame) -> None:
        """Record the motion of a moving segment's frame."""
        now = self._open
        assert now is not None
        if now.kind == "moving":
            now.motion_frames.append(here.frame)
            now.motions.append(now.anchor.motion_to(here).matrix)

    def _sample(self, here: _Frame, picture: PictureSource) -> None:
        now = self._open
        assert now is not None
        if now.kind == "black":
            return
        interval_s = MOVING_INTERVAL_S if now.kind == "moving" else now.interval_s
        if now.samples and here.time_s - now.samples[-1].time_s < interval_s - 1e-6:
            return
        if now.kind == "still" and len(now.samples) == STILL_SAMPLES:
            now.samples = now.samples[::2]
            now.interval_s *= 2
            if here.time_s - now.samples[-1].time_s < now.interval_s - 1e-6:
                return
        now.samples.append(Sample(here.frame, here.time_s, kept_picture(picture())))
        if now.kind == "moving":
            now.anchor = here

    def _next_piece(self, here: _Frame) -> list[CameraSegment]:
        """End a moving segment's piece that has all its samples."""
        assert self._open is not None
        if self._open.kind != "moving" or len(self._open.samples) < MOVING_SAMPLES:
            return []
        closed = self._close(here, here.time_s)
        window = list(self._window)
        self._begin(_Frame(here.frame + 1, here.time_s, here.small), "moving", continues=True)
        self._window = deque(window)
        return [closed]


def kept_picture(picture: NDArray[np.uint8]) -> Grey:
    """Return a picture (grey or BGR) as it is kept: grey, the long side at most ``KEPT_PX``."""
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    scale = min(1.0, KEPT_PX / max(grey.shape))
    if scale == 1.0:
        return np.array(grey, np.uint8)
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
