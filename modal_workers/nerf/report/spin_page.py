"""Writes spin.html: an interactive view of the object, with the frames inside the page; works from disk."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from modal_workers.nerf.photo_arcs import Arc
from modal_workers.nerf.report.coverage_charts import compass
from modal_workers.nerf.report.frame_archive import FrameArchive, RgbaImage
from modal_workers.nerf.report.frame_views import FrameRow
from modal_workers.nerf.report.html_page import asset, write_page

#: Maximum size of the page; frames take three quarters of it, because base64 adds a third.
PAGE_BYTES: Final = 12 << 20
_FRAMES_BYTES: Final = int(PAGE_BYTES * 0.73)
_SIZES_PX: Final = (512, 448, 384, 320, 256, 192, 128)
#: Minimum steps per ring, where there are as many; and the maximum of frames, to limit the encoding time.
_MIN_STEPS: Final = 72
_MAX_FRAMES: Final = 720
_QUALITY: Final = 82


@dataclass(frozen=True)
class FrameSelection:
    """Frames of the page: every ``stride``-th of each ring, ``size_px`` wide."""

    stride: int
    size_px: int


def select_frames(frames: int, rings: int, size_px: int, bytes_at: Callable[[int], float]) -> FrameSelection:
    """Select number and size of the frames that fit; ``bytes_at`` returns the bytes of a frame at a size."""
    azimuths = frames // rings
    strides = [stride for stride in range(1, azimuths + 1) if azimuths % stride == 0]
    sizes = [size for size in _SIZES_PX if size < size_px]
    sizes = [min(size_px, _SIZES_PX[0]), *sizes]
    for size in sizes:
        limit = min(_MAX_FRAMES, int(_FRAMES_BYTES / max(1.0, bytes_at(size))))
        fitting = [stride for stride in strides if rings * azimuths // stride <= limit]
        if fitting and azimuths // fitting[0] >= min(_MIN_STEPS, azimuths):
            return FrameSelection(fitting[0], size)
    limit = min(_MAX_FRAMES, int(_FRAMES_BYTES / max(1.0, bytes_at(sizes[-1]))))
    return FrameSelection(
        next((stride for stride in strides if rings * azimuths // stride <= limit), azimuths), sizes[-1]
    )


def write_spin(
    path: Path,
    frames: FrameArchive,
    elevations_deg: Sequence[float],
    *,
    title: str,
    description: str,
    shown_frames: Sequence[FrameRow],
    arcs: tuple[Arc, ...] | None,
    closed: bool,
    progress: Callable[[float], None],
) -> FrameSelection:
    """Write the page; return which frames it has. ``arcs`` are those that photos show; None where unknown.

    ``closed``: whether the rings go all the way around.
    """
    params = frames.params
    rings = len(elevations_deg)

    def bytes_at(size_px: int) -> float:
        samples = {len(frames) * step // 5 for step in range(5)}
        return max(len(webp(frames.image(frame, size_px))) for frame in samples)

    selection = select_frames(len(frames), rings, params.frame_size_px, bytes_at)
    shown = range(0, params.azimuths, selection.stride)
    blob, offsets = io.BytesIO(), [0]
    for number in range(rings):
        for place, azimuth in enumerate(shown):
            blob.write(webp(frames.image(number * params.azimuths + azimuth, selection.size_px)))
            offsets.append(blob.tell())
            progress((number * len(shown) + place + 1) / (rings * len(shown)))
    write_page(
        path,
        "spin",
        title=title,
        style="viewer",
        description=description,
        shown=_shown(len(offsets) - 1, len(frames), selection.size_px, params.frame_size_px),
        compass=compass(arcs, shown_frames),
        script=asset("spin.js"),
        data={
            "rings": [round(angle, 2) for angle in elevations_deg],
            "azimuths": len(shown),
            "angles": [round(shown_frames[place].azimuth_deg, 4) for place in shown],
            "closed": closed,
            "views": _views([shown_frames[ring * params.azimuths + place] for ring in range(rings) for place in shown]),
            "zoom": _zoom(frames),
            "offsets": offsets,
            "frames": base64.b64encode(blob.getbuffer()).decode(),
        },
    )
    return selection


def _views(frames: Sequence[FrameRow]) -> list[tuple[float | None, float | None, bool | None]]:
    return [(frame.nearest_photo_deg, frame.seen_share, frame.seen) for frame in frames]


def webp(image: RgbaImage, quality: int = _QUALITY) -> bytes:
    """Encode RGBA as WebP with its alpha."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", quality=quality, method=3, alpha_quality=90)
    return buffer.getvalue()


def _zoom(frames: FrameArchive) -> float:
    """Return the magnification at which the object is still uncropped: frames leave room around it."""
    extent = 0.0
    for step in range(12):
        covered = frames.image(len(frames) * step // 12, 128)[..., 3] > 8
        half = covered.shape[0] / 2
        for axis in (0, 1):
            pixels = np.flatnonzero(covered.any(axis))
            if len(pixels):
                extent = max(extent, abs(pixels[0] - half) / half, abs(pixels[-1] + 1 - half) / half)
    return round(float(min(2.0, 0.94 / extent)), 3) if extent else 1.0


def _shown(count: int, frames: int, size_px: int, frame_size_px: int) -> str:
    count_text = f"all {frames:,} frames" if count == frames else f"{count:,} of {frames:,} frames"
    return (
        count_text if size_px == frame_size_px else f"{count_text}, {size_px} pixels wide instead of {frame_size_px:,}"
    )
