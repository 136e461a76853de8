"""Pictures of the orbit: contact sheet, video, and an animation with transparency."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modal_workers.nerf.report.frame_archive import FrameArchive, RgbaImage, composite, ring_frames

_COLUMNS: Final = 8
_CELL_PX: Final = 200
_GAP_PX: Final = 6
_TURN_S: Final = 6.0
_MOST_HZ: Final = 30.0
_VIDEO_PX: Final = 720
_WEBP_PX: Final = 320
_WEBP_FRAMES: Final = 60


def write_contact_sheet(path: Path, frames: FrameArchive) -> None:
    """Write a PNG with a row per ring, from the highest down, eight steps around, on a checkerboard."""
    params = frames.params
    columns = min(_COLUMNS, params.azimuths)
    rows = min(6, params.elevations)
    cell = min(_CELL_PX, params.frame_size_px)
    sheet = np.full((rows * (cell + _GAP_PX) + _GAP_PX, columns * (cell + _GAP_PX) + _GAP_PX, 3), 255, np.uint8)
    board = _checkerboard(cell)
    for row in range(rows):
        chosen = ring_frames(params, 1 - row / max(1, rows - 1) if rows > 1 else 0.0)
        for column in range(columns):
            frame = chosen[column * params.azimuths // columns]
            top, left = _GAP_PX + row * (cell + _GAP_PX), _GAP_PX + column * (cell + _GAP_PX)
            sheet[top : top + cell, left : left + cell] = composite(frames.image(frame, cell), board)
    Image.fromarray(sheet).save(path, optimize=True)


def write_video(path: Path, frames: FrameArchive, progress: Callable[[float], None], *, closed: bool = True) -> None:
    """Write one turn of the middle ring as MP4 (H.264, yuv420p, 6 s, no sound), on a soft background.

    A ring that is not ``closed`` is shown there and back.

    Raises:
        av.error.FFmpegError: encoding failed.
    """
    chosen = _turn(frames, closed=closed)
    rate = Fraction(min(_MOST_HZ, max(6.0, len(chosen) / _TURN_S))).limit_denominator(1000)
    side = min(_VIDEO_PX, frames.params.frame_size_px) // 2 * 2
    backdrop = _studio(side)
    # With few frames one turn is short: more turns fill the time.
    turns = max(1, round(_TURN_S * float(rate) / len(chosen)))
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "fast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for turn in range(turns):
            for place, frame in enumerate(chosen):
                image = composite(frames.image(frame, side), backdrop)
                image = image[:side, :side]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")))
                progress((turn * len(chosen) + place + 1) / (turns * len(chosen)))
        container.mux(stream.encode(None))


def write_animation(path: Path, frames: FrameArchive, *, closed: bool = True) -> None:
    """Write one turn of the middle ring as an animated WebP with transparency; see ``write_video``."""
    chosen = _turn(frames, closed=closed)
    step = -(-len(chosen) // _WEBP_FRAMES)
    size = min(_WEBP_PX, frames.params.frame_size_px)
    images = [Image.fromarray(frames.image(frame, size)) for frame in chosen[::step]]
    took_ms = round(1000 * _TURN_S / len(images))
    images[0].save(
        path,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=took_ms,
        loop=0,
        quality=80,
        method=3,
        background=(0, 0, 0, 0),
    )


def _turn(frames: FrameArchive, *, closed: bool) -> list[int]:
    """Return the frames of the middle ring, and of the way back where the ring is not closed."""
    ring = list(ring_frames(frames.params, 0.5))
    return ring if closed else ring + ring[-2:0:-1]


def _checkerboard(size_px: int) -> NDArray[np.float32]:
    cells = np.add.outer(np.arange(size_px) // 10, np.arange(size_px) // 10) % 2
    return np.repeat(np.where(cells[..., None] == 0, 232.0, 250.0), 3, 2).astype(np.float32)


def _studio(size_px: int) -> NDArray[np.float32]:
    """Return a wall that is lighter in the middle, above a floor."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float32) / size_px - 0.5
    light = 246 - 60 * np.clip(np.hypot(x, 1.15 * (y + 0.05)), 0, 1)
    light -= 10 * np.clip((y - 0.18) * 8, 0, 1)
    return np.asarray(cv2.GaussianBlur(np.repeat(light[..., None], 3, 2), (0, 0), 2), np.float32)


def hero_frame(frames: FrameArchive, share: float = 0.125) -> RgbaImage:
    """Return one frame that shows the object well: on the middle ring, some way around."""
    chosen = ring_frames(frames.params, 0.5)
    return frames.image(chosen[int(share * len(chosen))])
