"""The pass over all analysed frames: persons and shuttle candidates, stored stretch by stretch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.detection.analysis_picture import AnalysisSize, Picture
from modal_workers.badminton.detection.detection_log import FrameCandidates, FramePersons, save_detections
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.floor_points import FOLLOWED_M, outside_m
from modal_workers.badminton.players.persons import Persons, PoseBackend
from modal_workers.badminton.shuttle.shuttle_track import ShuttleBackend, ShuttleCandidates

#: Frames of one stored stretch: a killed worker repeats at most this many.
STRETCH_FRAMES: Final = 1800
#: Frames that the backends see again after a resumption, so that their memory of the scene is that of before.
WARM_UP_FRAMES: Final = 90
#: Persons farther from the court's lines are not stored: a margin around those that the tracker follows.
KEPT_M: Final = FOLLOWED_M + 1.0
#: Pictures that the backends take at once.
BATCH_FRAMES: Final = 8

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Detectors:
    """Backends for one camera segment; None where the mode does not need one.

    ``appearance`` returns the shirt histograms [n, ``appearance_length``] of persons in a picture.
    """

    pose: PoseBackend | None
    shuttle: ShuttleBackend | None
    appearance: Callable[[Picture, Persons], Floats]
    appearance_length: int


class DetectionPass:
    """Feeds the frames to the backends in order and stores what they find.

    Frames of segments without a court are skipped; their entries are empty.
    """

    def __init__(
        self,
        segments: Sequence[CameraSegmentResult],
        size: AnalysisSize,
        detectors_of: Callable[[CameraSegmentResult], Detectors],
        *,
        appearance_length: int,
        first_frame: int = 0,
    ) -> None:
        """``first_frame`` is the first frame that is not stored yet."""
        self._segments = deque(segment for segment in segments if segment.last_frame >= first_frame)
        self._size, self._detectors_of = size, detectors_of
        self._nobody = FramePersons.none(appearance_length)
        self._first = first_frame
        self._detectors: Detectors | None = None
        self._court: CourtView | None = None
        self._batch: list[Picture] = []
        # Entries of the frames from ``first_frame`` on; those of the shuttle may come later than those of the persons.
        self._persons: deque[FramePersons] = deque()
        self._candidates: deque[FrameCandidates] = deque()
        self._discarded_persons = self._discarded_candidates = 0

    @property
    def next_frame(self) -> int:
        """First frame that has to be fed: earlier than ``first_frame``, for the backends' memory."""
        for segment in self._segments:
            if segment.first_frame <= self._first <= segment.last_frame and segment.analysed:
                return max(segment.first_frame, self._first - WARM_UP_FRAMES)
        return self._first

    def wanting(self, frame: int) -> CameraSegmentResult | None:
        """Return the segment of a frame whose picture is needed, None for other frames; frames come in order."""
        segment = self._segment_of(frame)
        return segment if frame >= self.next_frame and segment is not None and segment.analysed else None

    def feed(self, frame: int, picture: Picture | None) -> None:
        """Take the next frame, with its picture if it is wanted."""
        segment = self._segment_of(frame)
        if segment is None or not segment.analysed:
            if frame >= self._first:
                self._persons.append(self._nobody)
                self._candidates.append(FrameCandidates.none())
            return
        if picture is None:
            raise ValueError(f"The picture of frame {frame} is missing.")
        if self._detectors is None:
            self._detectors, self._court = self._detectors_of(segment), segment.court
            skipped = max(0, self._first - frame)
            self._discarded_persons = self._discarded_candidates = skipped
        self._batch.append(picture)
        if len(self._batch) == BATCH_FRAMES or frame == segment.last_frame:
            self._detect()
        if frame == segment.last_frame:
            self._end_segment()

    def finish(self) -> None:
        """Handle the last frames, if the video ends before its last segment."""
        if self._detectors is not None:
            self._detect()
            self._end_segment()

    def stored(self, path: Path, *, last: bool = False) -> bool:
        """Write the next stretch if it is complete (or the ``last`` one); return whether it was written."""
        complete = min(len(self._persons), len(self._candidates))
        count = STRETCH_FRAMES if complete >= STRETCH_FRAMES else complete if last else 0
        if not count:
            return False
        persons = [self._persons.popleft() for _ in range(count)]
        candidates = [self._candidates.popleft() for _ in range(count)]
        save_detections(path, persons, candidates)
        return True

    def _segment_of(self, frame: int) -> CameraSegmentResult | None:
        while self._segments and self._segments[0].last_frame < frame:
            self._segments.popleft()
        current = self._segments[0] if self._segments else None
        return current if current is not None and current.first_frame <= frame else None

    def _detect(self) -> None:
        assert self._detectors is not None
        pictures, self._batch = self._batch, []
        if not pictures:
            return
        pose, shuttle = self._detectors.pose, self._detectors.shuttle
        found = pose.detect(pictures) if pose else []
        for picture, persons in zip(pictures, found, strict=True) if pose else ():
            self._add_persons(self._entry(picture, persons))
        if pose is None:
            for _ in pictures:
                self._add_persons(self._nobody)
        if shuttle is None:
            self._add_candidates(FrameCandidates.none() for _ in pictures)
        else:
            self._add_candidates(self._full_size(each) for each in shuttle.detect(pictures))

    def _end_segment(self) -> None:
        assert self._detectors is not None
        if self._detectors.shuttle is not None:
            self._add_candidates(self._full_size(each) for each in self._detectors.shuttle.flush())
        if len(self._persons) != len(self._candidates):
            raise RuntimeError(f"The shuttle backend returned {len(self._candidates)} frames of {len(self._persons)}.")
        self._detectors = None

    def _entry(self, picture: Picture, persons: Persons) -> FramePersons:
        assert self._detectors is not None
        persons = self._near_the_court(persons)
        appearance = self._detectors.appearance(picture, persons)
        boxes_px = self._size.to_full(persons.boxes_px.reshape(-1, 2, 2)).reshape(-1, 4)
        keypoints_px = persons.keypoints_px.astype(np.float32, copy=True)
        keypoints_px[..., :2] = self._size.to_full(keypoints_px[..., :2])
        return FramePersons(boxes_px, persons.confidence.astype(np.float32), keypoints_px, appearance)

    def _near_the_court(self, persons: Persons) -> Persons:
        """Leave out spectators: with many of them, the detections of 90 minutes would not fit into memory."""
        assert self._court is not None
        feet_px = np.stack([persons.boxes_px[:, [0, 2]].mean(axis=1), persons.boxes_px[:, 3]], axis=1)
        distance_m = outside_m(self._court.to_court(self._size.to_full(feet_px.astype(np.float32))))
        near = distance_m <= KEPT_M  # False for NaN: feet above the horizon
        return Persons(persons.boxes_px[near], persons.confidence[near], persons.keypoints_px[near])

    def _full_size(self, candidates: ShuttleCandidates) -> FrameCandidates:
        return FrameCandidates(self._size.to_full(candidates.position_px), candidates.score.astype(np.float32))

    def _add_persons(self, entry: FramePersons) -> None:
        if self._discarded_persons:
            self._discarded_persons -= 1
        else:
            self._persons.append(entry)

    def _add_candidates(self, entries: Iterable[FrameCandidates]) -> None:
        for entry in entries:
            if self._discarded_candidates:
                self._discarded_candidates -= 1
            else:
                self._candidates.append(entry)
