"""Pictures and tracks of a camera that shakes or turns a little, as if it stood still.

A camera that only turns sees every picture as a homography of every other one; that of the court's plane is known for
each frame. So each picture is warped to the view of the segment's court, all stages work in that view, and what they
found is mapped back to the pixels of its frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import CourtView, project
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.court.picture_motion import in_full_picture
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Picture = NDArray[np.uint8]
Homography = NDArray[np.float64]

#: A camera that moves the court farther than this, as a share of the picture's long side, loses a part of it.
_FARTHEST_SHARE: Final = 0.12
#: Frames in which the court is not known take the camera of the last one that is, for at most this share of a segment.
_UNKNOWN_SHARE: Final = 0.1


def can_be_stabilised(track: HomographyTrack, court: CourtView, full_size: tuple[int, int]) -> bool:
    """Return whether the pictures of a moving segment can be brought to one view."""
    known = np.isfinite(track.image_from_court[:, 0, 0])
    if 1 - known.mean() > _UNKNOWN_SHARE:
        return False
    corners = np.stack([project(each, CORNERS_M) for each in track.image_from_court[known]])
    moved = np.linalg.norm(corners - project(court.image_from_court, CORNERS_M), axis=2)
    return bool(moved.max() <= _FARTHEST_SHARE * max(full_size))


def view_from_frame(segment: CameraSegmentResult, frame: int) -> Homography | None:
    """Return the homography (3x3, full-size pixels) from a frame to its segment's view; None if they are the same."""
    if segment.track is None or segment.court is None:
        return None
    return np.asarray(segment.court.image_from_court @ np.linalg.inv(segment.track.nearest(frame)))


def stabilised(picture: Picture, segment: CameraSegmentResult, frame: int, full_size: tuple[int, int]) -> Picture:
    """Return a picture of any size as its segment's view shows it; ``full_size`` is (width, height) of the video."""
    homography = view_from_frame(segment, frame)
    if homography is None:
        return picture
    height, width = picture.shape[:2]
    to_full = in_full_picture((width, height), full_size)
    warp = np.linalg.inv(to_full) @ homography @ to_full
    warped = cv2.warpPerspective(
        picture, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.uint8)


def players_in_frames(tracks: PlayerTracks, segments: Sequence[CameraSegmentResult]) -> PlayerTracks:
    """Return players' tracks with boxes and keypoints in the pixels of each frame."""
    if all(segment.track is None for segment in segments):
        return tracks  # without a copy of all skeletons
    boxes, keypoints = tracks.boxes_px.copy(), tracks.keypoints_px.copy()
    for frame, homography in _moving_frames(segments):
        middle = (boxes[:, frame, :2] + boxes[:, frame, 2:]) / 2
        shift = project(homography, middle) - middle
        boxes[:, frame] += np.concatenate([shift, shift], axis=1)
        keypoints[:, frame, :, :2] = project(homography, keypoints[:, frame, :, :2])
    return replace(tracks, boxes_px=boxes, keypoints_px=keypoints)


def shuttle_in_frames(track: ShuttleTrack, segments: Sequence[CameraSegmentResult]) -> ShuttleTrack:
    """Return the shuttle's track in the pixels of each frame."""
    position = track.position_px.copy()
    for frame, homography in _moving_frames(segments):
        position[frame] = project(homography, position[frame])
    return replace(track, position_px=position)


def _moving_frames(segments: Sequence[CameraSegmentResult]) -> Iterator[tuple[int, Homography]]:
    """Yield each frame of a moving segment with the homography from the segment's view to it."""
    for segment in segments:
        if segment.track is not None:
            for frame in range(segment.first_frame, segment.last_frame + 1):
                homography = view_from_frame(segment, frame)
                if homography is not None:
                    yield frame, np.asarray(np.linalg.inv(homography), np.float64)
