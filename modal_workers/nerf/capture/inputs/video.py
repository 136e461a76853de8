"""Chooses a video's frames as a photographer would: each sharp, each from a little further around the object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PICTURE_SIDE_PX
from modal_workers.nerf.capture.inputs.photo import LONGEST_SIDE_PX, Picture

#: So many frames are chosen where the video moves enough: as a careful photographer would take.
FRAMES: Final = 120
_FEWEST_FRAMES: Final = 40
#: Way of the picture between two chosen frames at least, as a share of its width.
_STEP: Final = 0.02
#: Frames are looked at this often, and at this width.
_LOOKS_HZ: Final = 12.0
_LOOK_PX: Final = 320
#: Above this many pixels one thread decodes: each holds pictures of its own.
_LARGE_FRAME_PX: Final = 4096 * 2304
_LONGEST_S: Final = 1800.0


@dataclass(frozen=True)
class ChosenFrame:
    """One frame as a lossless file, upright, with its time from the first frame."""

    path: Path
    time_s: float


@dataclass(frozen=True)
class _Glimpse:
    number: int
    time_s: float
    sharpness: float
    way: float  # of the picture since the first frame, in widths


def choose_frames(path: Path, name: str, folder: Path, *, tick: Callable[[], None]) -> list[ChosenFrame]:
    """Decode a video twice: once to see which frames are sharp and how far it moves, once to keep the chosen ones.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE.
    """
    folder.mkdir(exist_ok=True)
    wanted = {one.number: one.time_s for one in _chosen(list(_glimpses(path, name, tick)))}
    if not wanted:
        raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name}: no frame of it decodes.")
    last = max(wanted)
    found: list[ChosenFrame] = []
    for number, time_s, frame in _frames(path, name):
        tick()
        if number in wanted:
            kept = folder / f"{number:06d}.png"
            if not cv2.imwrite(str(kept), _picture(frame), [cv2.IMWRITE_PNG_COMPRESSION, 1]):
                raise OSError(f"{kept.name} could not be written")
            found.append(ChosenFrame(kept, time_s))
        if number >= last:
            break
    return found


def _chosen(seen: list[_Glimpse]) -> list[_Glimpse]:
    """Cut the way into equal parts and take the sharpest frame of each."""
    if not seen:
        return []
    way = seen[-1].way
    count = int(np.clip(way / _STEP, _FEWEST_FRAMES, FRAMES))
    # Parts of equal way; where nothing moves, time counts a little, so that every part has an end.
    long = max(1e-6, seen[-1].time_s)
    at = [0.9 * one.way / max(way, 1e-6) + 0.1 * one.time_s / long for one in seen]
    best: dict[int, _Glimpse] = {}
    for one, place in zip(seen, at, strict=True):
        part = min(count - 1, int(place / max(at[-1], 1e-6) * count))
        if part not in best or one.sharpness > best[part].sharpness:
            best[part] = one
    return [best[part] for part in sorted(best)]


def _glimpses(path: Path, name: str, tick: Callable[[], None]) -> Iterator[_Glimpse]:
    before: Any = None
    due, way = 0.0, 0.0
    for number, time_s, frame in _frames(path, name):
        tick()
        if time_s + 1e-6 < due:
            continue
        due = max(due + 1 / _LOOKS_HZ, time_s)
        height = max(16, round(_LOOK_PX * frame.height / frame.width))
        grey = np.asarray(frame.reformat(width=_LOOK_PX, height=height, format="gray").to_ndarray(), np.uint8)
        if before is not None:
            way += _way(before, grey)
        before = grey
        yield _Glimpse(number, time_s, float(cv2.Laplacian(grey, cv2.CV_32F).var()), way)


def _way(before: Any, now: Any) -> float:
    """Give how far the picture's points moved, median, in widths."""
    points = cv2.goodFeaturesToTrack(before, 120, 0.01, 8)
    if points is None:
        return 0.0
    follow: Any = cv2.calcOpticalFlowPyrLK  # its stubs take no None for what it is to make
    moved, status, _ = follow(before, now, points, None, winSize=(15, 15), maxLevel=3)
    held: NDArray[np.bool_] = status.ravel() == 1
    if held.sum() < 8:
        return 0.05  # a cut, or a jerk that nothing could be followed over
    ways = np.linalg.norm((moved - points).reshape(-1, 2)[held], axis=1)
    # Of what moves: before a wide plain floor most points are the object's, but not all.
    return float(np.percentile(ways, 60)) / float(before.shape[1])


def _frames(path: Path, name: str) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Decode frames with their number and time; a video that breaks off ends there."""
    with _opened(path, name) as (container, stream):
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
                raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name}: no frame of it decodes.") from error


@contextmanager
def _opened(path: Path, name: str) -> Iterator[tuple[Any, Any]]:
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name} does not open as a video.") from error
    with container:
        if not container.streams.video:
            raise SaccadeError(ErrorCode.MEDIA_NO_VIDEO, f"{name} has no video track.")
        stream = container.streams.video[0]
        context = stream.codec_context
        if max(context.width, context.height) > PICTURE_SIDE_PX:
            raise SaccadeError(ErrorCode.MEDIA_TOO_LARGE, f"{name} is {context.width} x {context.height} pixels.")
        large = context.width * context.height > _LARGE_FRAME_PX
        stream.thread_type = "SLICE" if large else "AUTO"
        context.thread_count = 1 if large else 2
        yield container, stream


def _picture(frame: av.VideoFrame) -> Picture:
    """Give a frame upright, BGR, as large as the next stages take it."""
    rotation = round(frame.rotation / 90) * 90 % 360
    turns = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
    picture = np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)
    scale = LONGEST_SIDE_PX / max(picture.shape[:2])
    if scale < 1:
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.rotate(picture, turns[rotation]), np.uint8) if rotation else picture
