"""Key frames of a session: of each chunk the newest frame that the model was shown, small, for the transcript.

They are appended to one file on local disk. What is new in it is kept as a checkpoint of its own (a segment) whenever
the session's position is saved, so that nothing is uploaded twice and a later run finds them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.runtime.context import StageContext

#: Longest edge, and largest size, of a key frame.
EDGE_PX: Final = 320
_BYTES: Final = 20_000
_QUALITIES: Final = (80, 65, 50, 35, 20, 10)
#: Chunk, number of the frame, capture time, size of the JPEG that follows.
_HEADER: Final = struct.Struct(">IQdI")
_INDEX: Final = "key-frames.json"


@dataclass(frozen=True)
class KeyFrame:
    """Newest frame of one chunk."""

    chunk: int
    seq: int
    #: By the server's clock, unix seconds.
    captured_at_s: float
    jpeg: bytes


def encode_jpeg(rgb: NDArray[np.uint8], edge_px: int, max_bytes: int) -> bytes:
    """Return an image as JPEG with at most this edge; of lower quality, at last smaller, until it is small enough."""
    height_px, width_px = rgb.shape[:2]
    scale = min(1.0, edge_px / max(height_px, width_px))
    while True:
        size = (max(1, round(width_px * scale)), max(1, round(height_px * scale)))
        small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if size != (width_px, height_px) else rgb
        bgr = np.ascontiguousarray(small[:, :, ::-1])
        for quality in _QUALITIES:
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(jpeg) <= max_bytes:
                return jpeg
        scale /= 2


class KeyFrames(Mapping[int, bytes]):
    """The JPEG of each chunk's key frame, by the chunk's number; read from disk when it is asked for."""

    def __init__(self, context: StageContext) -> None:
        """Start with what earlier runs kept; their segments are fetched by ``load``."""
        self._context = context
        self._path = context.scratch / "key-frames"
        self._places: dict[int, tuple[int, int]] = {}
        self._saved_bytes = 0
        self._earlier = self._segments = 0
        #: Newest chunk that is kept.
        self.kept = 0
        self._newest = 0
        if (index := context.checkpoint(_INDEX)) is not None:
            known = json.loads(index.read_bytes())
            self._earlier = self._segments = known["segments"]
            self.kept = self._newest = known["chunk"]

    def add(self, frame: KeyFrame) -> None:
        """Add the frame of a chunk."""
        with self._path.open("ab") as out:
            start = out.tell()
            out.write(_HEADER.pack(frame.chunk, frame.seq, frame.captured_at_s, len(frame.jpeg)))
            out.write(frame.jpeg)
        self._places[frame.chunk] = (start + _HEADER.size, len(frame.jpeg))
        self._newest = max(self._newest, frame.chunk)

    def add_image(self, chunk: int, seq: int, captured_at_s: float, rgb: NDArray[np.uint8]) -> None:
        """Add the frame of a chunk as a small JPEG."""
        self.add(KeyFrame(chunk, seq, captured_at_s, encode_jpeg(rgb, EDGE_PX, _BYTES)))

    def save(self) -> None:
        """Keep the frames that were added since the last time.

        Raises:
            Stopped: the run was asked to stop, or has lost its claim.
        """
        if not self._path.exists() or (end := self._path.stat().st_size) == self._saved_bytes:
            return
        segment = self._context.scratch / "key-frames-segment"
        with self._path.open("rb") as source:
            source.seek(self._saved_bytes)
            segment.write_bytes(source.read())
        self._context.keep(segment, _segment_name(self._segments + 1))
        # The index comes last: a segment that it does not name is written again.
        index = self._context.scratch / _INDEX
        index.write_text(json.dumps({"segments": self._segments + 1, "chunk": self._newest}))
        self._context.keep(index, _INDEX)
        self._segments += 1
        self._saved_bytes, self.kept = end, self._newest

    def load(self) -> None:
        """Fetch the frames of earlier runs.

        Raises:
            Stopped: the run was asked to stop.
        """
        for number in range(1, self._earlier + 1):
            segment = self._context.checkpoint(_segment_name(number))
            for frame in () if segment is None else read_segment(segment.read_bytes()):
                if frame.chunk not in self._places:
                    self.add(frame)
        self._earlier = 0

    def __getitem__(self, chunk: int) -> bytes:
        """Return the JPEG of a chunk."""
        start, size = self._places[chunk]
        with self._path.open("rb") as source:
            source.seek(start)
            return source.read(size)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the chunks with a frame, in their order."""
        return iter(sorted(self._places))

    def __len__(self) -> int:
        """Return the number of chunks with a frame."""
        return len(self._places)

    def __contains__(self, chunk: object) -> bool:
        """Return whether a chunk has a frame."""
        return chunk in self._places


def read_segment(segment: bytes) -> Iterator[KeyFrame]:
    """Yield the frames of a segment; one that is cut off is left out."""
    start = 0
    while start + _HEADER.size <= len(segment):
        chunk, seq, captured_at_s, size = _HEADER.unpack_from(segment, start)
        start += _HEADER.size
        if start + size > len(segment):
            return
        yield KeyFrame(chunk, seq, captured_at_s, segment[start : start + size])
        start += size


def _segment_name(number: int) -> str:
    return f"key-frames-{number:05d}"
