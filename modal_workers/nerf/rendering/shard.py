"""One batch of frames on the way to its zip: what earlier runs stored is taken over, the rest is drawn in parts.

A part is kept every few seconds; it holds frames that no run draws again. Frames are encoded beside the drawing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from modal_workers.nerf.orbit import CameraOrbit
from modal_workers.nerf.rendering.batch import named_entries, read_part
from modal_workers.nerf.rendering.frames import Bytes, FrameSource, encode_png
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import StageContext

#: A part is kept after so many frames or seconds, whichever comes first.
PART_FRAMES: Final = 48
PART_S: Final = 5.0
_ENCODERS: Final = 2
#: Frames drawn and not yet encoded, at most: they are what takes memory.
_WAITING: Final = 8


@dataclass
class RenderedBatch:
    """A batch's frames as PNG, and who drew them."""

    frames: dict[int, bytes] = field(default_factory=dict)
    taken_over: int = 0
    rendered: int = 0
    rendering_s: float = 0.0


def render_batch(
    batch: int, expected: range, orbit: CameraOrbit, source: FrameSource, context: StageContext
) -> RenderedBatch:
    """Get all frames of a batch, drawing only those that no part holds."""
    drawn = RenderedBatch()
    part = 0
    while (path := context.checkpoint(_part(batch, part))) is not None:
        # a part that cannot be read is drawn again, and the next ones are still good
        found = read_part(path, orbit) or {}
        drawn.frames |= {index: data for index, data in found.items() if index in expected}
        part += 1
    drawn.taken_over = len(drawn.frames)
    missing = [index for index in expected if index not in drawn.frames]
    began_s = kept_s = time.monotonic()
    waiting: dict[int, bytes] = {}
    for index, data in _encoded(source.frames(orbit, missing)):
        waiting[index] = data
        drawn.rendered += 1
        if len(waiting) >= PART_FRAMES or time.monotonic() - kept_s > PART_S or drawn.rendered == len(missing):
            _keep(context, batch, part, waiting)
            drawn.frames |= waiting
            waiting, part, kept_s = {}, part + 1, time.monotonic()
        done = drawn.taken_over + drawn.rendered
        context.progress(0.98 * done / len(expected), f"frame {done} of {len(expected)}")
    drawn.rendering_s = time.monotonic() - began_s
    return drawn


def _encoded(frames: Iterator[tuple[int, Bytes]]) -> Iterator[tuple[int, bytes]]:
    """Encode in other threads while the next frames are drawn; in order."""
    with ThreadPoolExecutor(_ENCODERS) as pool:
        under_way: deque[tuple[int, Future[bytes]]] = deque()
        for index, rgba in frames:
            under_way.append((index, pool.submit(encode_png, rgba)))
            while under_way and (len(under_way) >= _WAITING or under_way[0][1].done()):
                first, future = under_way.popleft()
                yield first, future.result()
        for index, future in under_way:
            yield index, future.result()


def _keep(context: StageContext, batch: int, part: int, frames: dict[int, bytes]) -> None:
    path = context.scratch / _part(batch, part)
    write_zip(path, named_entries(sorted(frames.items())))
    context.keep(path, path.name)
    path.unlink()


def _part(batch: int, part: int) -> str:
    return f"batch_{batch:02d}_part_{part}.zip"
