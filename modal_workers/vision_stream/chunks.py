"""Chunks of a live session: when the next one begins, its frames decoded, and the verdict on each of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import SaccadeError
from contracts.events.session import SessionText, ShownFrame
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.frame_images import decode_frame
from modal_workers.vision_stream.spec import VisionStreamParams


@dataclass(frozen=True)
class ShownChunk:
    """Frames that the model is shown together, oldest first."""

    source: str
    frames: tuple[ShownFrame, ...]
    images: tuple[NDArray[np.uint8], ...]
    #: Seconds since the session's first frame.
    start_s: float
    end_s: float
    #: Arrival of the newest frame, unix seconds; None for frames that are shown again.
    arrived_at_s: float | None
    newest: SessionFrame
    #: Frames since the chunk before that are not shown.
    dropped: int = 0


class ChunkSource:
    """Chunks of one run."""

    def __init__(self, params: VisionStreamParams, context: LiveContext) -> None:
        """Begin with the next frames."""
        self._params, self._context = params, context
        #: Capture time of the session's first frame, unix seconds.
        self._zero_s: float | None = None
        self._began_s = -math.inf
        self._dropped = self._superseded()
        self.last: ShownChunk | None = None

    def next(self, wait_s: float, *, is_urgent: bool) -> ShownChunk | None:
        """Return the next chunk, once ``chunk_s`` have passed since the last one began; None after ``wait_s`` without.

        With ``overlap`` the last frame of the chunk before is its first one, of ``chunk_frames`` in all. An urgent one
        (there is a question) begins with the next frame. Each of its frames has its verdict then:
        rejected, if it cannot be decoded; otherwise accepted.
        """
        due_in_s = 0.0 if is_urgent else self._began_s + self._params.chunk_s - time.monotonic()
        if due_in_s > 0:
            time.sleep(min(due_in_s, wait_s))
            if due_in_s > wait_s:
                return None
        # Only the first chunk waits for more frames: before a later one they have had the time to come.
        is_first = self._began_s == -math.inf
        span_s = self._params.chunk_s if is_first and not is_urgent else 0.0
        before = self.last if self._params.overlap and self._params.chunk_frames > 1 else None
        count = self._params.chunk_frames - (before is not None)
        frames = self._context.next_chunk(count, span_s, wait_s)
        if not frames:
            return None
        began_s = time.monotonic()
        shown, images = self._decode(frames)
        if not shown:
            return None
        for frame in shown:
            self._context.accept(frame, joints=None, idle_steps=0, steps=0)
        self._began_s = began_s
        superseded, dropped_before = self._superseded(), self._dropped
        self._dropped = superseded
        if before is not None and _goes_on(before.newest, shown[0]):
            shown, images = [before.newest, *shown], [before.images[-1], *images]
        self.last = self._chunk(shown, images, superseded - dropped_before)
        return self.last

    def again(self) -> ShownChunk | None:
        """Return the last chunk as one to be shown again; None before the first."""
        if self.last is None:
            return None
        last = self.last
        return ShownChunk(last.source, last.frames, last.images, last.start_s, last.end_s, None, last.newest)

    def resume(self, texts: Iterable[SessionText], frames: Sequence[SessionFrame]) -> None:
        """Continue after all texts of earlier runs; the last chunk is their newest frame that is still stored."""
        # The first one begins at the session's first frame, exactly: the others' times are rounded, and those of a
        # camera whose clock was set back are cut off at 0.
        self._zero_s = next((text.frames[0].captured_at_s for text in texts if text.frames), None)
        if frames:
            image = decode_frame(frames[-1].image, self._params.max_edge_px)
            self.last = self._chunk([frames[-1]], [image], 0)

    def _decode(self, frames: Sequence[SessionFrame]) -> tuple[list[SessionFrame], list[NDArray[np.uint8]]]:
        shown, images = [], []
        for frame in frames:
            try:
                images.append(decode_frame(frame.image, self._params.max_edge_px))
                shown.append(frame)
            except SaccadeError as error:
                self._context.reject(frame, error)
        return shown, images

    def _chunk(self, frames: Sequence[SessionFrame], images: Sequence[NDArray[np.uint8]], dropped: int) -> ShownChunk:
        if self._zero_s is None:
            self._zero_s = frames[0].captured_at_s
        first, newest = frames[0], frames[-1]
        start_s = round(max(0.0, first.captured_at_s - self._zero_s), 3)
        return ShownChunk(
            source=newest.source,
            frames=tuple(ShownFrame(seq=frame.seq, captured_at_s=frame.captured_at_s) for frame in frames),
            images=tuple(images),
            start_s=start_s,
            end_s=max(start_s, round(newest.captured_at_s - self._zero_s, 3)),
            arrived_at_s=newest.arrived_at_s,
            newest=newest,
            dropped=max(0, dropped),
        )

    def _superseded(self) -> int:
        return self._context.totals.reasons.get("superseded", 0)


def _goes_on(before: SessionFrame, frame: SessionFrame) -> bool:
    """Return whether a frame is of the same camera as an earlier one, and later by its clock."""
    return before.source == frame.source and before.captured_at_s < frame.captured_at_s
