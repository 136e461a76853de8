"""State that survives a worker besides the durable texts: the position in the telemetry, and the key frames."""

from __future__ import annotations

import time
from typing import Final

from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.chunks import ShownChunk
from modal_workers.vision_stream.frame_images import decode_frame
from modal_workers.vision_stream.key_frames import KeyFrames

#: Chunks and time after which they are saved.
_SAVE_CHUNKS: Final = 20
_SAVE_S: Final = 30.0


class SavedFrames:
    """Key frames and position of one run."""

    def __init__(self, context: LiveContext) -> None:
        """Start with what earlier runs have kept."""
        self._context = context
        self.key_frames = KeyFrames(context)
        self._chunks, self._saved_at_s = 0, time.monotonic()

    def resume(self) -> None:
        """Add the key frames of the texts after the newest kept one, from the telemetry that is still stored."""
        texts = {(text.source, text.last_seq): text for text in self._context.past_texts}
        for frame in self._context.past_frames:
            text = texts.get(frame.key)
            if text is not None and text.chunk > self.key_frames.kept:
                image = decode_frame(frame.image, max_edge_px=720)
                self.key_frames.add_image(text.chunk, frame.seq, frame.captured_at_s, image)

    def add(self, number: int, chunk: ShownChunk) -> None:
        """Add a chunk that has its text."""
        self.key_frames.add_image(number, chunk.newest.seq, chunk.newest.captured_at_s, chunk.images[-1])
        self._chunks += 1

    def save_if_due(self) -> None:
        """Save both after some chunks or some time."""
        if self._chunks >= _SAVE_CHUNKS or time.monotonic() - self._saved_at_s >= _SAVE_S:
            self.key_frames.save()
            self._context.save_position()
            self._chunks, self._saved_at_s = 0, time.monotonic()
