"""Small pictures of the hall from all over each camera segment, from which the motion backend learns the empty hall.

Their number has a limit: a broadcast match of 90 minutes has hundreds of segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.checkpoints import JPEG
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.stabilisation import stabilised
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.motion_backend import reduced
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.footage.video_reader import DecodedFrame

Picture = NDArray[np.uint8]

#: Distance in time of a segment's pictures, at first; it doubles where a segment has more of them than are kept.
SAMPLE_INTERVAL_S: Final = 0.5
SAMPLES: Final = 24
#: Most pictures of all segments: compressed while the video is read (about 0.15 MB each), and afterwards (0.7 MB each).
MOST_COMPRESSED: Final = 1200
MOST_PICTURES: Final = 360


@dataclass
class HallPictures:
    """Collects the pictures while a video is read."""

    size: AnalysisSize
    interval_s: float = SAMPLE_INTERVAL_S
    #: Of the segment that is being read: time and JPEG by frame.
    _open: dict[int, tuple[float, Any]] = field(default_factory=dict)
    #: JPEG by frame, for each segment that was read; and how many of each are kept.
    _closed: list[dict[int, Any]] = field(default_factory=list)
    _most: int = SAMPLES

    def take(self, frame: int, decoded: DecodedFrame) -> None:
        """Take the next frame's picture if one is due."""
        last_s = next(reversed(self._open.values()))[0] if self._open else -np.inf
        if decoded.time_s < last_s + self.interval_s:
            return
        # Scaled in the same steps as the pictures that are compared with them: else every edge differs.
        small = reduced(decoded.colour_at(self.size.width_px, self.size.height_px))
        self._open[frame] = decoded.time_s, cv2.imencode(".jpg", small, JPEG)[1]
        if len(self._open) > 2 * SAMPLES:
            self._open = dict(list(self._open.items())[::2])
            self.interval_s *= 2

    def end_segment(self, last_frame: int) -> None:
        """End the segment whose last frame this is."""
        done = {frame: self._open.pop(frame)[1] for frame in list(self._open) if frame <= last_frame}
        self.interval_s = SAMPLE_INTERVAL_S
        self._closed.append(self._thinned(done))
        while self._most > 1 and sum(map(len, self._closed)) > MOST_COMPRESSED:
            self._most //= 2
            self._closed = [self._thinned(pictures) for pictures in self._closed]

    def of_segments(
        self, segments: Sequence[CameraSegmentResult], views: Sequence[int | None]
    ) -> dict[int, tuple[Picture, ...]]:
        """Return the pictures of each analysed segment, by its number.

        Segments of one still view (``views``: its number for each segment) share theirs where they have too few of
        their own, and where all of them together would be too many.
        """
        kept = {frame: picture for pictures in self._closed for frame, picture in pictures.items()}
        own = {
            number: [frame for frame in kept if segment.first_frame <= frame <= segment.last_frame]
            for number, segment in enumerate(segments)
            if segment.analysed
        }
        of_view: dict[int | None, list[int]] = {}
        for number, frames in own.items():
            if segments[number].track is None:
                of_view.setdefault(views[number], []).extend(frames)
        moving = [number for number in own if segments[number].track is not None]
        sharing = len(own) * SAMPLES > MOST_PICTURES
        each = SAMPLES if not sharing else min(SAMPLES, max(1, MOST_PICTURES // (len(of_view) + len(moving))))
        shared: dict[int | None, tuple[Picture, ...]] = {}
        pictures: dict[int, tuple[Picture, ...]] = {}
        for number, frames in own.items():
            view = views[number]
            if segments[number].track is not None or (not sharing and len(frames) >= SAMPLES):
                pictures[number] = self._decoded(kept, frames, each, segments[number])
            else:
                if view not in shared:
                    shared[view] = self._decoded(kept, of_view[view], each, segments[number])
                pictures[number] = shared[view]
        return pictures

    def _thinned(self, pictures: Mapping[int, Any]) -> dict[int, Any]:
        return {frame: pictures[frame] for frame in _spread(list(pictures), self._most)}

    def _decoded(
        self, kept: Mapping[int, Any], frames: Sequence[int], most: int, segment: CameraSegmentResult
    ) -> tuple[Picture, ...]:
        full_size = self.size.full_width_px, self.size.full_height_px
        read = ((frame, decode_picture(kept[frame], cv2.IMREAD_COLOR)) for frame in _spread(frames, most))
        return tuple(stabilised(np.asarray(picture, np.uint8), segment, frame, full_size) for frame, picture in read)


def _spread(frames: Sequence[int], most: int) -> list[int]:
    """Return at most so many of some frames, evenly."""
    if len(frames) <= most:
        return list(frames)
    if most == 1:
        return [frames[len(frames) // 2]]
    return [frames[round(index)] for index in np.linspace(0, len(frames) - 1, most)]
