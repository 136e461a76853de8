"""Writes spin.html: the object turns under the hand, frames inside the page, from disk and without a server."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from modal_workers.nerf.report.frame_archive import FrameArchive, Picture
from modal_workers.nerf.report.html_page import asset, write_page

#: What the page may weigh; its frames are three quarters of it, for base64 makes them a third longer.
PAGE_BYTES: Final = 12 << 20
_FRAMES_BYTES: Final = int(PAGE_BYTES * 0.73)
_SIZES_PX: Final = (512, 448, 384, 320, 256, 192, 128)
#: Around at least so many steps, where there are as many; more only as far as encoding takes seconds, not minutes.
_FEWEST_STEPS: Final = 72
_MOST_FRAMES: Final = 720
_QUALITY: Final = 82


@dataclass(frozen=True)
class FrameSelection:
    """Which frames the page shows: every ``stride``-th of each ring, ``size_px`` wide."""

    stride: int
    size_px: int


def select_frames(frames: int, rings: int, size_px: int, bytes_at: Callable[[int], float]) -> FrameSelection:
    """Choose so many frames and as large that they fit; ``bytes_at`` tells what one weighs at a size."""
    azimuths = frames // rings
    strides = [stride for stride in range(1, azimuths + 1) if azimuths % stride == 0]
    sizes = [size for size in _SIZES_PX if size < size_px]
    sizes = [min(size_px, _SIZES_PX[0]), *sizes]
    for size in sizes:
        room = min(_MOST_FRAMES, int(_FRAMES_BYTES / max(1.0, bytes_at(size))))
        fitting = [stride for stride in strides if rings * azimuths // stride <= room]
        if fitting and azimuths // fitting[0] >= min(_FEWEST_STEPS, azimuths):
            return FrameSelection(fitting[0], size)
    room = min(_MOST_FRAMES, int(_FRAMES_BYTES / max(1.0, bytes_at(sizes[-1]))))
    return FrameSelection(next((one for one in strides if rings * azimuths // one <= room), azimuths), sizes[-1])


def write_spin(
    path: Path,
    frames: FrameArchive,
    elevations_deg: Sequence[float],
    *,
    title: str,
    told: str,
    progress: Callable[[float], None],
) -> FrameSelection:
    """Write the page, and give which frames are in it."""
    params = frames.params
    rings = len(elevations_deg)

    def bytes_at(size_px: int) -> float:
        samples = {len(frames) * step // 5 for step in range(5)}
        return max(len(webp(frames.picture(frame, size_px))) for frame in samples)

    choice = select_frames(len(frames), rings, params.frame_size_px, bytes_at)
    shown = range(0, params.azimuths, choice.stride)
    blob, offsets = io.BytesIO(), [0]
    for number in range(rings):
        for place, azimuth in enumerate(shown):
            blob.write(webp(frames.picture(number * params.azimuths + azimuth, choice.size_px)))
            offsets.append(blob.tell())
            progress((number * len(shown) + place + 1) / (rings * len(shown)))
    write_page(
        path,
        "spin",
        title=title,
        style="viewer",
        told=told,
        shown=_shown(len(offsets) - 1, len(frames), choice.size_px, params.frame_size_px),
        script=asset("spin.js"),
        data={
            "rings": [round(angle, 2) for angle in elevations_deg],
            "azimuths": len(shown),
            "zoom": _zoom(frames),
            "offsets": offsets,
            "frames": base64.b64encode(blob.getbuffer()).decode(),
        },
    )
    return choice


def webp(picture: Picture, quality: int = _QUALITY) -> bytes:
    """Encode RGBA as WebP with its alpha."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=quality, method=3, alpha_quality=90)
    return buffer.getvalue()


def _zoom(frames: FrameArchive) -> float:
    """Give how much larger the object can be shown without a cut: frames have room for it however it is turned."""
    reach = 0.0
    for step in range(12):
        covered = frames.picture(len(frames) * step // 12, 128)[..., 3] > 8
        middle = covered.shape[0] / 2
        for axis in (0, 1):
            places = np.flatnonzero(covered.any(axis))
            if len(places):
                reach = max(reach, abs(places[0] - middle) / middle, abs(places[-1] + 1 - middle) / middle)
    return round(float(min(2.0, 0.94 / reach)), 3) if reach else 1.0


def _shown(count: int, frames: int, size_px: int, frame_size_px: int) -> str:
    many = f"all {frames:,} frames" if count == frames else f"{count:,} of {frames:,} frames"
    return many if size_px == frame_size_px else f"{many}, {size_px} pixels wide instead of {frame_size_px:,}"
