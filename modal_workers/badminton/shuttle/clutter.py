"""Density of clutter in the picture: how often something that is no shuttle is a candidate, at each place and time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Size of a cell of the map, in a picture 720 pixels high, and length of the time over which it counts.
CELL_PX: Final = 8.0
BLOCK_S: Final = 20.0
#: Candidates a frame and pixel where none was counted.
_BASE_DENSITY: Final = 1e-7
#: A shuttle passes through a cell too: what a place has seen up to this many times is no evidence of clutter.
_PASSES: Final = 4.0
#: Factor of the density inside a person's box.
_PERSON_FACTOR: Final = 3.0


def clutter_density(
    log: CandidateLog,
    times_s: Floats,
    picture_size: tuple[int, int],
    frames: tuple[int, int],
    *,
    person_log: PersonLog | None,
) -> Floats:
    """Return candidates of clutter a frame and pixel at each candidate of a range of frames.

    A place counts over the whole time around a candidate, also after it: a static thing is known from its first frame.
    """
    first, last = frames
    rows = slice(int(log.frame_offsets[first]), int(log.frame_offsets[last + 1]))
    position = log.position_px[rows].astype(float)
    frame = np.repeat(np.arange(first, last + 1), np.diff(log.frame_offsets[first : last + 2]))
    width, height = picture_size
    cell = CELL_PX * height / 720
    columns, lines = int(width / cell) + 3, int(height / cell) + 3
    block = ((times_s[frame] - times_s[first]) // BLOCK_S).astype(int)
    x = np.clip(position[:, 0] / cell, 0, columns - 3).astype(int) + 1
    y = np.clip(position[:, 1] / cell, 0, lines - 3).astype(int) + 1
    density = np.full(len(position), _BASE_DENSITY * (720 / height) ** 2)
    for number in np.unique(block):
        mine = block == number
        counts = np.bincount(y[mine] * columns + x[mine], minlength=lines * columns).reshape(lines, columns)
        # Every candidate is in the sum over its own cell and the eight around it.
        around = sum(np.roll(np.roll(counts, down, 0), right, 1) for down in (-1, 0, 1) for right in (-1, 0, 1))
        seen = np.asarray(around)[y[mine], x[mine]]
        frame_count = max(1, int(np.ptp(frame[mine])) + 1)
        density[mine] += np.maximum(0.0, seen - _PASSES) / (frame_count * 9 * cell**2)
        density[mine] += mine.sum() / frame_count / (width * height)
    if person_log is not None:
        density[near_persons(position, frame, person_log)] *= _PERSON_FACTOR
    return density


def near_persons(position_px: Floats, frames: Indices, person_log: PersonLog, margin: float = 0.0) -> NDArray[np.bool_]:
    """Return which places are in a person's box of their frame, widened by ``margin`` times its height."""
    inside = np.zeros(len(position_px), bool)
    if not len(frames):
        return inside
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(frames)], strict=True):
        boxes = person_log.boxes_px[person_log.rows(int(frames[start]))].astype(float)
        around = margin * (boxes[:, 3] - boxes[:, 1])[:, None]
        place = position_px[start:stop]
        above = (place[:, None] > boxes[None, :, :2] - around).all(2)
        below = (place[:, None] < boxes[None, :, 2:] + around).all(2)
        inside[start:stop] = (above & below).any(1)
    return inside
