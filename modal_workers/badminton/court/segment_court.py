"""A camera segment with its court, and the joining of segments that differ in nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from modal_workers.badminton.court.camera_segments import Kind
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, Floats
from modal_workers.badminton.court.homography_track import HomographyTrack, between

#: Two stills of one camera are one when the court moves less than this between them, as a share of the picture.
_RESTING_SHARE: Final = 0.001
#: A motion between two stills of one camera that is as short as this needs no picture of its own.
_JERK_S: Final = 1.0
#: A camera is one of the match when it shows the court for this share of the time of the one that shows it longest.
_MAIN_CAMERA_SHARE: Final = 0.25


@dataclass(frozen=True, eq=False)
class SegmentCourt:
    """A camera segment with its court, or with the reason why it has none."""

    first_frame: int
    last_frame: int  # included
    start_s: float
    end_s: float
    kind: Kind
    #: Whether it goes on from the segment before without a cut.
    continues: bool
    #: Of a moving segment: the court at about its middle; ``track`` has it for every frame.
    court: CourtView | CourtNotFound
    #: Number of the camera view: segments that a cut back joins have the same. None without a court.
    view: int | None
    track: HomographyTrack | None = None

    def view_at(self, frame: int) -> CourtView | None:
        """Return the court as the camera sees it in a frame; None where it is not known."""
        if isinstance(self.court, CourtNotFound):
            return None
        if self.track is None:
            return self.court
        homography = self.track.at(frame)
        return None if homography is None else replace(self.court, image_from_court=homography)


def bridged(segments: Iterable[SegmentCourt]) -> list[SegmentCourt]:
    """Return the segments with a court for each short motion without one, between two of the same view."""
    result = list(segments)
    for number in range(1, len(result) - 1):
        before, here, after = result[number - 1 : number + 2]
        short = here.kind == "moving" and here.view is None and here.end_s - here.start_s <= _JERK_S
        if not (short and here.continues and after.continues and before.view == after.view is not None):
            continue
        start, end = before.view_at(before.last_frame), after.view_at(after.first_frame)
        if start is not None and end is not None:
            count = here.last_frame - here.first_frame + 1
            track = HomographyTrack(here.first_frame, between(start.image_from_court, end.image_from_court, count))
            court = replace(start, image_from_court=track.image_from_court[count // 2])
            result[number] = replace(here, court=court, view=before.view, track=track)
    return result


def joined(segments: Iterable[SegmentCourt], full_size: tuple[int, int]) -> list[SegmentCourt]:
    """Return the segments with neighbours of one camera as one: stills at the same place, and pieces of one motion."""
    result: list[SegmentCourt] = []
    for segment in segments:
        before = result[-1] if result else None
        if before is None or not segment.continues or (before.kind, before.view) != (segment.kind, segment.view):
            result.append(segment)
        elif segment.kind == "moving":
            parts = [part.track for part in (before, segment) if part.track is not None]
            track = None
            if parts:
                track = HomographyTrack(before.first_frame, np.concatenate([part.image_from_court for part in parts]))
            result[-1] = replace(before, last_frame=segment.last_frame, end_s=segment.end_s, track=track)
        elif _is_at_the_same_place(before.court, segment.court, full_size):
            result[-1] = replace(before, last_frame=segment.last_frame, end_s=segment.end_s)
        else:
            result.append(segment)
    return result


def of_main_cameras(segments: Iterable[SegmentCourt]) -> list[SegmentCourt]:
    """Return the segments without the courts of cameras that show it briefly: broadcasts cut to them for replays.

    Segments between which there is no cut, and those of one view, are of one camera.
    """
    result = list(segments)
    camera_of: dict[int, int] = {}
    before: SegmentCourt | None = None
    for segment in result:
        if segment.view is not None:
            camera_of.setdefault(segment.view, segment.view)
            if before is not None and before.view is not None and segment.continues:
                old, new = camera_of[segment.view], camera_of[before.view]
                camera_of = {view: new if camera == old else camera for view, camera in camera_of.items()}
        before = segment
    shown_s: dict[int, float] = dict.fromkeys(camera_of.values(), 0.0)
    for segment in result:
        if segment.view is not None:
            shown_s[camera_of[segment.view]] += segment.end_s - segment.start_s
    longest_s = max(shown_s.values(), default=0.0)
    text = "Another camera shows the court here, as in a replay; only cameras that show it for long are analysed."
    for number, segment in enumerate(result):
        if segment.view is not None and shown_s[camera_of[segment.view]] < _MAIN_CAMERA_SHARE * longest_s:
            court = CourtNotFound(CourtRefusal.OTHER_CAMERA, text)
            result[number] = replace(segment, court=court, view=None, track=None)
    return result


def _is_at_the_same_place(
    court: CourtView | CourtNotFound, other: CourtView | CourtNotFound, full_size: tuple[int, int]
) -> bool:
    if isinstance(court, CourtNotFound) or isinstance(other, CourtNotFound):
        return isinstance(court, CourtNotFound) and isinstance(other, CourtNotFound) and court.code == other.code
    moved: Floats = np.linalg.norm(court.corners_px - other.corners_px, axis=1)
    return bool(np.nanmedian(moved) < _RESTING_SHARE * max(full_size))
