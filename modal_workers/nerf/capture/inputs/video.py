"""Selects frames of a video as photos: sharp ones, at even steps around the object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.video_track import open_video
from modal_workers.nerf.capture.inputs.photo import LONGEST_SIDE_PX, Picture

#: Frames selected from a video with enough motion: as many as a careful photographer takes.
FRAMES: Final = 120
_FEWEST_FRAMES: Final = 40
#: Minimum motion between two selected frames, as a share of the width.
_STEP: Final = 0.02
#: Frames are measured at this rate, and at this width.
_MEASURED_HZ: Final = 12.0
_MEASURED_PX: Final = 320
_LONGEST_S: Final = 1800.0


@dataclass(frozen=True)
class ChosenFrame:
    """One selected frame as a lossless file, upright, with its time from the first frame."""

    path: Path
    time_s: float


@dataclass(frozen=True)
class _MeasuredFrame:
    number: int
    time_s: float
    sharpness: float
    motion: float  # motion since the first frame, in image widths


def choose_frames(path: Path, name: str, folder: Path, *, tick: Callable[[], None]) -> list[ChosenFrame]:
    """Decode a video twice: first to measure sharpness and motion, then to save the selected frames.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE.
    """
    folder.mkdir(exist_ok=True)
    selected = {frame.number: frame.time_s for frame in _select(list(_measured_frames(path, name, tick)))}
    if not selected:
        raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name}: none of its frames can be decoded.")
    last = max(selected)
    found: list[ChosenFrame] = []
    for number, time_s, frame in _frames(path, name):
        tick()
        if number in selected:
            kept = folder / f"{number:06d}.png"
            if not cv2.imwrite(str(kept), _upright_bgr(frame), [cv2.IMWRITE_PNG_COMPRESSION, 1]):
                raise OSError(f"{kept.name} could not be written")
            found.append(ChosenFrame(kept, time_s))
        if number >= last:
            break
    return found


def _select(frames: list[_MeasuredFrame]) -> list[_MeasuredFrame]:
    """Divide the motion into equal parts and return the sharpest frame of each."""
    if not frames:
        return []
    motion = frames[-1].motion
    count = int(np.clip(motion / _STEP, _FEWEST_FRAMES, FRAMES))
    # Parts of equal motion; time has a small weight so that parts end where nothing moves.
    length_s = max(1e-6, frames[-1].time_s)
    positions = [0.9 * frame.motion / max(motion, 1e-6) + 0.1 * frame.time_s / length_s for frame in frames]
    best: dict[int, _MeasuredFrame] = {}
    for frame, position in zip(frames, positions, strict=True):
        part = min(count - 1, int(position / max(positions[-1], 1e-6) * count))
        if part not in best or frame.sharpness > best[part].sharpness:
            best[part] = frame
    return [best[part] for part in sorted(best)]


def _measured_frames(path: Path, name: str, tick: Callable[[], None]) -> Iterator[_MeasuredFrame]:
    before: Any = None
    due, motion = 0.0, 0.0
    for number, time_s, frame in _frames(path, name):
        tick()
        if time_s + 1e-6 < due:
            continue
        due = max(due + 1 / _MEASURED_HZ, time_s)
        height = max(16, round(_MEASURED_PX * frame.height / frame.width))
        grey = np.asarray(frame.reformat(width=_MEASURED_PX, height=height, format="gray").to_ndarray(), np.uint8)
        if before is not None:
            motion += _median_motion(before, grey)
        before = grey
        yield _MeasuredFrame(number, time_s, float(cv2.Laplacian(grey, cv2.CV_32F).var()), motion)


def _median_motion(before: Any, now: Any) -> float:
    """Return the median motion of the image points, in image widths."""
    points = cv2.goodFeaturesToTrack(before, 120, 0.01, 8)
    if points is None:
        return 0.0
    follow: Any = cv2.calcOpticalFlowPyrLK  # its type stubs do not accept None for the output
    moved, status, _ = follow(before, now, points, None, winSize=(15, 15), maxLevel=3)
    held: NDArray[np.bool_] = status.ravel() == 1
    if held.sum() < 8:
        return 0.05  # a cut, or a motion too fast to track
    ways = np.linalg.norm((moved - points).reshape(-1, 2)[held], axis=1)
    # Above the median: before a plain floor most points are on the object, but not all.
    return float(np.percentile(ways, 60)) / float(before.shape[1])


def _frames(path: Path, name: str) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Yield the frames with number and time; a truncated video ends early."""
    with open_video(path, name) as (container, stream):
        nominal_s = 1 / float(stream.average_rate) if stream.average_rate else 1 / 30
        origin: float | None = None
        number, last_s = 0, -1.0
        try:
            for frame in container.decode(stream):
                stamp = float(frame.pts * frame.time_base) if frame.pts is not None else None
                origin = (stamp or 0.0) if origin is None else origin
                time_s = last_s + nominal_s if stamp is None else stamp - origin
                if time_s > _LONGEST_S:
                    return
                last_s = max(last_s, time_s)
                yield number, max(0.0, time_s), frame
                number += 1
        except (av.error.FFmpegError, OSError) as error:
            if number == 0:
                raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name}: none of its frames can be decoded.") from error


def _upright_bgr(frame: av.VideoFrame) -> Picture:
    """Return a frame upright, BGR, at most as large as the later stages take it."""
    rotation = round(frame.rotation / 90) * 90 % 360
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    scale = LONGEST_SIDE_PX / max(picture.shape[:2])
    if scale < 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.rotate(picture, turns[rotation]), np.uint8) if rotation else picture
