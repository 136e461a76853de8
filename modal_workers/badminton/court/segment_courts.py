"""Courts of a video's camera segments: found once a camera, recognised after a cut back, followed while it moves.

Works through the segments as they are completed, so that no more than one segment's pictures are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from modal_workers.badminton.court.camera import cameras_of
from modal_workers.badminton.court.camera_segments import CameraSegment, Kind, Sample
from modal_workers.badminton.court.detection import MIN_INLIER_SHARE, detect_in, median_grey
from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, Floats, project
from modal_workers.badminton.court.homography_track import follow_between, paths_of
from modal_workers.badminton.court.picture_motion import Grey, in_full_picture
from modal_workers.badminton.court.refinement import LineFit, fit_lines
from modal_workers.badminton.court.segment_court import SegmentCourt, bridged, joined, of_main_cameras

#: Views that are remembered for a cut back.
_MAX_VIEWS: Final = 8
#: A view is the same when its lines are found this close, in pixels of the kept picture, as well as before.
_SAME_VIEW_PX: Final = (8.0, 4.0, 3.0)
_SAME_VIEW_SHARE: Final = 0.85
_SAME_VIEW_MOVED: Final = 0.01
#: While a camera moves, its lines are searched this far from where the motion of the picture puts them.
_FOLLOWING_PX: Final = (12.0, 6.0, 3.0, 3.0)
#: A court is followed as long as this share of its lines is found, and of a piece's pictures at least this share.
_FOLLOWED_INLIERS: Final = 0.5
_FOLLOWED_SAMPLES: Final = 0.8
#: A lost court is searched anew after this time, which doubles up to the last.
_RETRY_S: Final = (2.0, 30.0)


@dataclass(frozen=True, eq=False)
class _View:
    number: int
    court: CourtView


class SegmentCourts:
    """Finds the courts of segments in their order."""

    def __init__(self, full_size: tuple[int, int], given: CourtView | None = None) -> None:
        """``full_size`` is that of the upright video; ``given`` the court of the user's keypoints.

        A given court is that of every still segment that shows its lines, and of the longest one if none does.
        """
        self._full_size = full_size
        self._views: list[_View] = [_View(0, given)] if given is not None else []
        self._given = given
        self._next_number = len(self._views)
        #: The court at the end of the segment before, for one that goes on without a cut.
        self._previous: tuple[CourtView, int] | None = None
        self._retry_s, self._tried_s = _RETRY_S[0], -np.inf
        self._segments: list[SegmentCourt] = []

    def add(self, segment: CameraSegment) -> None:
        """Find the court of the next segment."""
        if not segment.continues:
            self._previous = None
        if segment.kind == "black":
            found = self._without(segment, CourtRefusal.BLACK, "The picture is black.")
        elif not segment.samples:
            found = self._without(segment, CourtRefusal.NO_PICTURE, "The segment is too short to be looked at.")
        elif segment.kind == "still":
            found = self._still(segment)
        else:
            found = self._moving(segment)
        self._segments.append(found)

    def finish(self) -> list[SegmentCourt]:
        """Return all segments; those between which the camera rested or moved on in the same way are joined."""
        segments = joined(bridged(self._segments), self._full_size)
        still = [segment for segment in segments if segment.kind == "still"]
        if self._given is not None and still and all(segment.view != 0 for segment in segments):
            longest = max(still, key=lambda segment: segment.end_s - segment.start_s)
            segments[segments.index(longest)] = replace(longest, court=self._given, view=0)
        return of_main_cameras(segments)

    def _still(self, segment: CameraSegment) -> SegmentCourt:
        grey = median_grey([sample.grey for sample in segment.samples])
        recognised = self._recognised(grey)
        if recognised is None:
            found = detect_in(grey)
            if isinstance(found, CourtNotFound):
                self._previous = None
                return self._without(segment, found.code, found.text)
            court = _at_scale(found, self._to_full(grey))
            recognised = court, self._new_number(court)
        self._previous = recognised
        return SegmentCourt(*_facts(segment), court=recognised[0], view=recognised[1])

    def _recognised(self, grey: Grey) -> tuple[CourtView, int] | None:
        """Return the court and number of a known view, if its lines are where they were."""
        to_full = self._to_full(grey)
        # Where the camera has moved to comes first, then the views of before, the last one first.
        moved_here = [] if self._previous is None else [_View(self._previous[1], self._previous[0])]
        for view in (*moved_here, *reversed(self._views)):
            known = np.asarray(np.linalg.inv(to_full) @ view.court.image_from_court)
            fit = fit_lines(grey, known, radii_px=_SAME_VIEW_PX)
            wanted = _SAME_VIEW_SHARE * float(np.nan_to_num(view.court.inlier_share, nan=MIN_INLIER_SHARE))
            moved = np.linalg.norm(project(fit.image_from_court, CORNERS_M) - project(known, CORNERS_M), axis=1).max()
            if fit.inlier_share >= max(wanted, MIN_INLIER_SHARE) and moved < _SAME_VIEW_MOVED * max(grey.shape):
                found = _View(view.number, _with_fit(view.court, fit, to_full))
                # A camera that drifts is looked for where it was last.
                self._views = [*(other for other in self._views if other.number != view.number), found]
                return found.court, found.number
        return None

    def _new_number(self, court: CourtView) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        self._views = [*self._views[-_MAX_VIEWS + 1 :], _View(number, court)]
        return number

    def _moving(self, segment: CameraSegment) -> SegmentCourt:
        court, number = self._previous or (None, None)
        keyframes = {} if court is None else {segment.first_frame - 1: court}
        paths = paths_of(segment, self._full_size)
        reference = paths[segment.first_frame - 1]
        followed = 0
        for sample in segment.samples:
            to_full = self._to_full(sample.grey)
            path = paths.get(sample.frame, reference)
            since = np.asarray(path @ np.linalg.inv(reference))
            here = None if court is None else self._followed(sample, court, since, to_full)
            if here is None and sample.time_s - self._tried_s >= self._retry_s:
                here = self._found_again(sample, to_full)
            if here is not None:
                court, reference = here, path
                keyframes[sample.frame] = court
                followed += 1
        if court is None or followed < _FOLLOWED_SAMPLES * len(segment.samples):
            self._previous = (court, number) if court is not None and number is not None and followed else None
            text = "The camera moves, and the court could not be followed."
            return self._without(segment, CourtRefusal.CAMERA_MOVES, text)
        number = self._new_number(court) if number is None else number
        self._previous = (court, number)
        track = follow_between(segment, keyframes, self._full_size)
        middle = track.at((segment.first_frame + segment.last_frame) // 2)
        court = replace(
            court,
            image_from_court=court.image_from_court if middle is None else middle,
            inlier_share=float(np.median([keyframe.inlier_share for keyframe in keyframes.values()])),
        )
        return SegmentCourt(*_facts(segment), court=court, view=number, track=track)

    @staticmethod
    def _followed(sample: Sample, court: CourtView, since: Floats, to_full: Floats) -> CourtView | None:
        """Return the court of a moving camera's picture, near the place where the picture's motion puts it."""
        predicted = np.asarray(np.linalg.inv(to_full) @ since @ court.image_from_court)
        fit = fit_lines(sample.grey, predicted, radii_px=_FOLLOWING_PX)
        height, width = sample.grey.shape
        plausible = bool(cameras_of(fit.image_from_court[None], (width, height)).plausible(width)[0])
        moved = np.linalg.norm(project(fit.image_from_court, CORNERS_M) - project(predicted, CORNERS_M), axis=1)
        if fit.inlier_share < _FOLLOWED_INLIERS or not plausible or float(np.median(moved)) > 2 * _FOLLOWING_PX[0]:
            return None
        return _with_fit(court, fit, to_full)

    def _found_again(self, sample: Sample, to_full: Floats) -> CourtView | None:
        """Return a court that is found anew in a picture of a moving camera."""
        self._tried_s = sample.time_s
        found = detect_in(sample.grey)
        if isinstance(found, CourtNotFound):
            self._retry_s = min(2 * self._retry_s, _RETRY_S[1])
            return None
        self._retry_s = _RETRY_S[0]
        return _at_scale(found, to_full)

    def _to_full(self, grey: Grey) -> Floats:
        """Return the homography from pixels of a kept picture to those of the full one."""
        return in_full_picture((grey.shape[1], grey.shape[0]), self._full_size)

    @staticmethod
    def _without(segment: CameraSegment, code: CourtRefusal, text: str) -> SegmentCourt:
        return SegmentCourt(*_facts(segment), court=CourtNotFound(code, text), view=None)


def _facts(segment: CameraSegment) -> tuple[int, int, float, float, Kind, bool]:
    facts = (segment.first_frame, segment.last_frame, segment.start_s, segment.end_s, segment.kind)
    return (*facts, segment.continues)


def _at_scale(court: CourtView, to_full: Floats) -> CourtView:
    return replace(
        court,
        image_from_court=np.asarray(to_full @ court.image_from_court),
        residual_px=court.residual_px * float(to_full[0, 0]),
    )


def _with_fit(court: CourtView, fit: LineFit, to_full: Floats) -> CourtView:
    """Return a court as a picture's lines have it."""
    return replace(
        court,
        image_from_court=np.asarray(to_full @ fit.image_from_court),
        residual_m=fit.residual_m,
        residual_px=fit.residual_px * float(to_full[0, 0]),
        inlier_share=fit.inlier_share,
        visible_share=fit.visible_share,
    )
