"""A batch of frames in one ZIP: names, reading and checks."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.orbit import CameraOrbit
from modal_workers.nerf.params import BATCH_FRAMES
from modal_workers.nerf.photo_arcs import arc_azimuth_deg, frame_is_seen
from modal_workers.nerf.rendering.frames import decode_png

_TRANSPARENT: Final = 0
_OPAQUE: Final = 250


@dataclass(frozen=True)
class CheckedFrame:
    """Properties of a frame that was read back."""

    index: int
    name: str
    azimuth_deg: float
    elevation_deg: float
    bytes: int
    sha256: str
    coverage: float  # mean alpha, 0..1
    max_alpha: int
    nearest_photo_deg: float | None = None  # angle to the nearest photo at the centre of the object
    seen_share: float | None = None  # of the pixels, by photos of the training from nearby, 0..1

    @property
    def seen(self) -> bool | None:
        """Whether photos show what the frame shows."""
        return frame_is_seen(self.nearest_photo_deg, self.seen_share)


def count_seen(frames: Sequence[CheckedFrame]) -> int | None:
    """Return the number of seen frames; None where it is unknown."""
    known = [frame.seen for frame in frames if frame.seen is not None]
    return sum(known) if len(known) == len(frames) else None


def frame_name(index: int) -> str:
    """Return the file name of a frame."""
    return f"frame_{index:04d}.png"


def frame_range(batch: int, frames: int) -> range:
    """Return the frames of a batch."""
    return range(batch * BATCH_FRAMES, min((batch + 1) * BATCH_FRAMES, frames))


def named_entries(frames: Iterable[tuple[int, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Return frames with their file names, as entries of a ZIP."""
    return ((frame_name(index), data) for index, data in frames)


def read_zip(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the frames in the order of the file; their CRC-32 is checked.

    Raises:
        zipfile.BadZipFile: the file is truncated, or the bytes of a frame are damaged.
        ValueError: the file contains something else.
    """
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = entry.filename
            index = int(name.removeprefix("frame_").removesuffix(".png"))
            if name != frame_name(index):
                raise ValueError(f"{name} is not a frame")
            yield index, archive.read(entry)


def read_part(path: Path, orbit: CameraOrbit) -> dict[int, bytes] | None:
    """Return the frames of an earlier run's file; None where it is damaged."""
    try:
        found = dict(read_zip(path))
        for index, data in found.items():
            check_frame(index, data, orbit)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, SaccadeError):
        return None
    return found


def check_frame(index: int, data: bytes, orbit: CameraOrbit) -> CheckedFrame:
    """Read a frame back and check it: size, alpha channel, and that alpha is transparent and opaque somewhere.

    Raises:
        SaccadeError: INTERNAL, the frame is damaged; INPUT_UNREADABLE, nothing is opaque or nothing is transparent.
    """
    image = decode_png(data)
    size = orbit.size_px
    if image is None or image.shape != (size, size, 4):
        raise SaccadeError(ErrorCode.INTERNAL, f"Frame {index} is not {size} x {size} RGBA.")
    alpha = image[..., 3]
    low, high = int(alpha.min()), int(alpha.max())
    if low > _TRANSPARENT or high <= _OPAQUE:
        missing = "transparent" if low > _TRANSPARENT else "opaque"
        raise SaccadeError(
            ErrorCode.INPUT_UNREADABLE,
            f"Frame {index} has no {missing} pixel: alpha is {low} to {high}.",
            hint="Send masks, set crop_radius so that only the object is inside the sphere, or train longer.",
        )
    azimuth, elevation = orbit.angles_deg(index)
    sha256 = hashlib.sha256(data).hexdigest()
    coverage = round(float(alpha.mean()) / 255, 5)
    return CheckedFrame(index, frame_name(index), azimuth, elevation, len(data), sha256, coverage, high)


def check_batch(path: Path, orbit: CameraOrbit, expected: range) -> list[CheckedFrame]:
    """Read a whole ZIP back: the right frames, complete, and each one valid.

    Raises:
        SaccadeError: INTERNAL, INPUT_UNREADABLE; see ``check_frame``.
    """
    try:
        found = [check_frame(index, data, orbit) for index, data in read_zip(path)]
    except (zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise SaccadeError(ErrorCode.INTERNAL, f"The batch cannot be read back: {error}") from error
    if [frame.index for frame in found] != list(expected):
        raise SaccadeError(
            ErrorCode.INTERNAL, f"The batch has {len(found)} frames, not {len(expected)} starting at {expected.start}."
        )
    return found


def spacing_error_deg(orbit: CameraOrbit, frames: range) -> float:
    """Return the largest deviation of the poses from even spacing, in degrees."""
    worst = 0.0
    for index in frames:
        x, y, z = orbit.world_from_camera(index)[:3, 3] - np.array(orbit.centre)
        azimuth, elevation = math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))
        expected_deg = arc_azimuth_deg(orbit.arcs, index % orbit.azimuths, orbit.azimuths)
        azimuth_error = (azimuth - expected_deg + 180.0) % 360.0 - 180.0
        worst = max(worst, abs(azimuth_error), abs(elevation - orbit.elevations_deg[index // orbit.azimuths]))
    return worst


def batch_description(orbit: CameraOrbit, frames: list[CheckedFrame]) -> dict[str, Any]:
    """Return the JSON beside a batch: intrinsics, and pose and checksum of each frame."""
    half = orbit.size_px / 2
    return {
        "camera": {
            "model": "PINHOLE",
            "w": orbit.size_px,
            "h": orbit.size_px,
            "fl_x": orbit.focal_px,
            "fl_y": orbit.focal_px,
            "cx": half,
            "cy": half,
        },
        "axes": "world_from_camera, OpenCV: x right, y down, z forward; the frame of model/splat.ply",
        "frames": [
            asdict(frame) | {"seen": frame.seen, "world_from_camera": orbit.world_from_camera(frame.index).tolist()}
            for frame in frames
        ],
    }
