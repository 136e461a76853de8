"""Rendering of one batch: frames stored by earlier runs are reused, the rest is rendered in parts.

A part is checkpointed every few seconds; no run renders its frames again. Encoding runs in other threads.
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

#: A part is checkpointed after this many frames or seconds, whichever comes first.
PART_FRAMES: Final = 48
PART_S: Final = 5.0
_ENCODERS: Final = 2
#: Maximum of rendered frames that are not encoded yet: they determine the memory.
_MAX_PENDING: Final = 8


@dataclass
class RenderedBatch:
    """A batch's frames as PNG, and how many were rendered by this run."""

    frames: dict[int, bytes] = field(default_factory=dict)
    taken_over: int = 0
    rendered: int = 0
    rendering_s: float = 0.0


def render_batch(
    batch: int, expected: range, orbit: CameraOrbit, source: FrameSource, context: StageContext
) -> RenderedBatch:
    """Return all frames of a batch; render only those that no part holds."""
    batch_frames = RenderedBatch()
    part = 0
    while (path := context.checkpoint(_part_name(batch, part))) is not None:
        # A damaged part is rendered again; later parts are still used.
        found = read_part(path, orbit) or {}
        batch_frames.frames |= {index: data for index, data in found.items() if index in expected}
        part += 1
    batch_frames.taken_over = len(batch_frames.frames)
    missing = [index for index in expected if index not in batch_frames.frames]
    began_s = saved_s = time.monotonic()
    unsaved: dict[int, bytes] = {}
    for index, data in _encoded(source.frames(orbit, missing)):
        unsaved[index] = data
        batch_frames.rendered += 1
        if len(unsaved) >= PART_FRAMES or time.monotonic() - saved_s > PART_S or batch_frames.rendered == len(missing):
            _checkpoint(context, batch, part, unsaved)
            batch_frames.frames |= unsaved
            unsaved, part, saved_s = {}, part + 1, time.monotonic()
        done = batch_frames.taken_over + batch_frames.rendered
        context.progress(0.98 * done / len(expected), f"frame {done} of {len(expected)}")
    batch_frames.rendering_s = time.monotonic() - began_s
    return batch_frames


def _encoded(frames: Iterator[tuple[int, Bytes]]) -> Iterator[tuple[int, bytes]]:
    """Encode in other threads while the next frames are rendered; in order."""
    with ThreadPoolExecutor(_ENCODERS) as pool:
        pending: deque[tuple[int, Future[bytes]]] = deque()
        for index, rgba in frames:
            pending.append((index, pool.submit(encode_png, rgba)))
            while pending and (len(pending) >= _MAX_PENDING or pending[0][1].done()):
                first, future = pending.popleft()
                yield first, future.result()
        for index, future in pending:
            yield index, future.result()


def _checkpoint(context: StageContext, batch: int, part: int, frames: dict[int, bytes]) -> None:
    path = context.scratch / _part_name(batch, part)
    write_zip(path, named_entries(sorted(frames.items())))
    context.keep(path, path.name)
    path.unlink()


def _part_name(batch: int, part: int) -> str:
    return f"batch_{batch:02d}_part_{part}.zip"
