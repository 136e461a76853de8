"""The court stage: times of all frames, the camera's segments, and the court in each; one decoding of the video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.checkpoints import CourtStage
from modal_workers.badminton.court.camera_segments import CameraSegmenter
from modal_workers.badminton.court.homography import CourtNotFound, CourtView
from modal_workers.badminton.court.keypoints import court_from_keypoints
from modal_workers.badminton.court.picture_motion import SMALL_PX
from modal_workers.badminton.court.segment_court import SegmentCourt
from modal_workers.badminton.court.segment_courts import SegmentCourts
from modal_workers.badminton.detection.analysis_picture import AnalysisSize
from modal_workers.badminton.detection.hall_pictures import HallPictures
from modal_workers.badminton.detection.stabilisation import can_be_stabilised
from modal_workers.badminton.frame_times import AnalysedFrames
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.footage.video_reader import VideoFacts, VideoReader

Picture = NDArray[np.uint8]

#: Segments shorter than this show nothing that is worth a track.
LEAST_SEGMENT_S: Final = 0.5
#: Below this rate a stride is over between two frames: distances in simulated matches are up to 16 % too short at 8 Hz,
#: and up to 24 % at 5 Hz; at 12.5 Hz they are within their error.
LEAST_RATE_HZ: Final = 10.0
#: Ratio of the sides beyond which no picture shows a whole court; scaled down, a side would have no pixels left.
MOST_STRETCHED: Final = 8.0


def find_courts(
    video: Path,
    name: str,
    keypoints: Mapping[str, tuple[float, float]] | None,
    *,
    progress: Callable[[float, str], None],
) -> CourtStage:
    """Divide a video into camera segments and find the court in each.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, CLIP_TOO_SHORT, COURT_NOT_FOUND,
            COURT_KEYPOINTS_INVALID.
    """
    size = _size(video, name)
    given = court_from_keypoints(keypoints, size, _some_pictures(video, name)) if keypoints is not None else None
    scale = min(1.0, SMALL_PX / max(size))
    reader = VideoReader(video, name, width_px=round(size[0] * scale), height_px=round(size[1] * scale))
    selection, segmenter, courts = AnalysedFrames(), CameraSegmenter(), SegmentCourts(size, given)
    hall = HallPictures(AnalysisSize.of(*size))
    frame = 0
    with closing(reader.frames()) as decoded:
        for picture in decoded:
            progress(
                min(1.0, picture.time_s / reader.duration_s) if reader.duration_s else 0.0, "looking for the court"
            )
            if not selection.admit(picture.time_s):
                continue
            hall.take(frame, picture)
            for segment in segmenter.feed(frame, picture.time_s, picture.grey, picture.colour):
                hall.end_segment(segment.last_frame)
                courts.add(segment)
            frame += 1
    reader.reject_short()
    for segment in segmenter.finish():
        hall.end_segment(segment.last_frame)
        courts.add(segment)
    found = courts.finish()
    segments = [_result(each, size) for each in found]
    if not any(segment.analysed for segment in segments):
        raise _no_court(segments, reader.facts)
    pictures = hall.of_segments(segments, [each.view for each in found])
    warnings = [*reader.warnings, *_slow_warnings(selection.times.rate_hz)]
    return CourtStage(reader.facts, selection.times, tuple(segments), pictures, tuple(warnings))


def _slow_warnings(rate_hz: float) -> list[str]:
    if rate_hz >= LEAST_RATE_HZ:
        return []
    text = f"The video has {rate_hz:.3g} frames a second: below {LEAST_RATE_HZ:.0f}, where distances and speeds are"
    return [f"{text} measured, they come out too small, by more than their errors say, and the shuttle is not seen."]


def _size(video: Path, name: str) -> tuple[int, int]:
    """Return width and height of the upright picture.

    Raises:
        SaccadeError: INPUT_UNREADABLE where there is no picture, COURT_NOT_FOUND where it is a strip.
    """
    reader = VideoReader(video, name)
    with closing(reader.decoded()) as decoded:
        if next(decoded, None) is None:
            raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"No frame of {name} can be decoded.")
    width, height = reader.facts.width_px, reader.facts.height_px
    if max(width, height) > MOST_STRETCHED * min(width, height):
        raise SaccadeError(ErrorCode.COURT_NOT_FOUND, f"A picture of {width} × {height} pixels cannot show a court.")
    return width, height


def _some_pictures(video: Path, name: str) -> list[Picture]:
    """Return grey pictures of the beginning: the user's points are of a camera that stands still from there on."""
    found: list[Picture] = []
    with closing(VideoReader(video, name).frames(rate_hz=2.0)) as decoded:
        for frame in decoded:
            # Grey is all that is used, and a third of the memory: a picture of 8K has 100 MB.
            found.append(np.asarray(cv2.cvtColor(frame.colour(), cv2.COLOR_BGR2GRAY), np.uint8))
            if len(found) == 8:
                break
    return found


def _result(segment: SegmentCourt, size: tuple[int, int]) -> CameraSegmentResult:
    court, kind, reason = segment.court, "play", ""
    track = segment.track
    view: CourtView | None = None
    if isinstance(court, CourtNotFound):
        kind, reason = str(court.code), court.text
    elif segment.end_s - segment.start_s < LEAST_SEGMENT_S:
        kind, reason = "too_short", "The camera shows the court for a moment only."
    elif track is not None and not can_be_stabilised(track, court, size):
        kind, reason, track = "camera_moves", "The camera pans too far to be treated as one view.", None
    else:
        view = court
    return CameraSegmentResult(
        first_frame=segment.first_frame,
        last_frame=segment.last_frame,
        start_s=segment.start_s,
        end_s=segment.end_s,
        kind=kind,
        court=view,
        reason=reason,
        track=track if view is not None else None,
    )


def _no_court(segments: Sequence[CameraSegmentResult], facts: VideoFacts) -> SaccadeError:
    """Return the error: what the longest segment lacks."""
    longest = max(segments, key=lambda segment: segment.end_s - segment.start_s)
    share = (longest.end_s - longest.start_s) / max(facts.duration_s, 1e-6)
    where = "" if share > 0.95 else f" The camera shows this for {longest.end_s - longest.start_s:.0f} s."
    return SaccadeError(ErrorCode.COURT_NOT_FOUND, f"{longest.reason}{where}")
