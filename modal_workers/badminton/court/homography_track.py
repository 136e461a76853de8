"""The court frame by frame while a camera moves, from pictures in which its lines were found and the motion between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera_segments import CameraSegment
from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M
from modal_workers.badminton.court.homography import CourtView, Floats, project
from modal_workers.badminton.court.keypoints import homography_from_points
from modal_workers.badminton.court.picture_motion import in_picture

#: Without lines the motion of the picture is followed for this time at most.
_LONGEST_GAP_S: Final = 0.7
_GRID_M: Final = np.array([(x, y) for y in np.linspace(0, COURT_LENGTH_M, 9) for x in np.linspace(0, COURT_WIDTH_M, 5)])


@dataclass(frozen=True, eq=False)
class HomographyTrack:
    """The court's homographies frame by frame while a camera moves; NaN where it was not followed."""

    first_frame: int
    image_from_court: Floats

    def at(self, frame: int) -> Floats | None:
        """Return the homography of a frame; None where it is not known."""
        number = frame - self.first_frame
        if not 0 <= number < len(self.image_from_court) or np.isnan(self.image_from_court[number, 0, 0]):
            return None
        return np.asarray(self.image_from_court[number])

    def nearest(self, frame: int) -> Floats:
        """Return the homography of a frame, or that of the nearest frame in which it is known."""
        known = self._known
        number = frame - self.first_frame
        after = int(np.searchsorted(known, number))
        around = known[max(after - 1, 0) : after + 1]
        return np.asarray(self.image_from_court[around[np.argmin(np.abs(around - number))]])

    @cached_property
    def _known(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isfinite(self.image_from_court[:, 0, 0]))


def follow_between(
    segment: CameraSegment, keyframes: Mapping[int, CourtView], full_size: tuple[int, int]
) -> HomographyTrack:
    """Return the homographies of a moving segment's frames from those of some of them.

    Between two keyframes the picture's motion is followed from the first, and what it misses at the second is spread
    over the frames in proportion.
    """
    count = segment.last_frame - segment.first_frame + 1
    result = np.full((count, 3, 3), np.nan)
    paths = paths_of(segment, full_size)
    rate_hz = count / max(segment.end_s - segment.start_s, 1e-6)
    numbers = sorted(keyframes)
    for first, last in zip(numbers, [*numbers[1:], None], strict=True):
        start = keyframes[first].image_from_court
        end = None if last is None else keyframes[last].image_from_court
        until = segment.last_frame + 1 if last is None else last
        if (until - first) / rate_hz > _LONGEST_GAP_S:
            until = first + 1
        for frame in range(max(first, segment.first_frame), until):
            moved = _moved(start, paths, first, frame)
            if end is not None and last is not None and frame > first:
                goal = _moved(start, paths, first, last)
                moved = _corrected(moved, goal, end, (frame - first) / (last - first), full_size)
            result[frame - segment.first_frame] = moved
    return HomographyTrack(segment.first_frame, result)


def between(start: Floats, end: Floats, count: int) -> Floats:
    """Return homographies (count, 3, 3) that lead from one to the other in equal steps of the floor's points."""
    use = np.ones(len(_GRID_M), bool)
    for homography in (start, end):
        use &= _GRID_M @ homography[2, :2] + homography[2, 2] > 0
    here, there = project(start, _GRID_M[use]), project(end, _GRID_M[use])
    shares = (np.arange(count) + 1) / (count + 1)
    return np.stack([homography_from_points(_GRID_M[use], here + share * (there - here)) for share in shares])


def paths_of(segment: CameraSegment, full_size: tuple[int, int]) -> dict[int, Floats]:
    """Return the picture's motion since the beginning of a moving segment for those of its frames that have one."""
    sampled = {sample.frame for sample in segment.samples}
    paths = {segment.first_frame - 1: np.eye(3)}
    since = np.eye(3)
    for frame, motion in zip(segment.motion_frames.tolist(), segment.motions, strict=True):
        paths[frame] = np.asarray(in_picture(motion, segment.small_size, full_size) @ since)
        if frame in sampled:
            since = paths[frame]
    return paths


def _moved(start: Floats, paths: Mapping[int, Floats], first: int, frame: int) -> Floats:
    if first not in paths or frame not in paths:
        return start
    return np.asarray(paths[frame] @ np.linalg.inv(paths[first]) @ start)


def _corrected(moved: Floats, goal: Floats, end: Floats, share: float, full_size: tuple[int, int]) -> Floats:
    """Return a homography whose points move by a share of the way from the ``goal`` to the true ``end``."""
    there, wanted, here = (project(homography, _GRID_M) for homography in (goal, end, moved))
    margin = 0.5 * np.asarray(full_size)
    # Points of the floor behind the camera, or far outside of the picture, say nothing of what is inside.
    use = ((here > -margin) & (here < full_size + margin)).all(axis=1)
    for homography in (goal, end, moved):
        use &= _GRID_M @ homography[2, :2] + homography[2, 2] > 0
    if use.sum() < 6:
        return moved
    return homography_from_points(_GRID_M[use], here[use] + share * (wanted[use] - there[use]))
