"""File of a replay: a segment in the format of the archive, written frame by frame as its events come.

A frame is written when it is whole, the manifest last. After an interruption the file goes on after its last whole
frame, and ends with the same bytes as without one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from saccade_client import ReplayedEvent, ReplayView

from cli.failure import Failure
from contracts.events.base import Cursor
from kit.history.event_lines import decode_lines
from kit.history.manifest import SegmentInvalid, SegmentManifest
from kit.history.segments import TAIL_BYTES, SegmentBuilder, read_index, tail_needed, whole_frames

_CHUNK_BYTES: Final = 256 * 1024
_STREAM: Final = "EVENTS"


class ReplayFile:
    """File of one replay, open for writing."""

    def __init__(self, path: Path, replay: ReplayView) -> None:
        """Open a new file, or one that was not finished.

        Raises:
            Failure: it is another file.
        """
        self._path = path
        after, self._until = (Cursor.parse(replay.window[name]) for name in ("after", "until"))
        self._builder = SegmentBuilder(_STREAM, after.epoch, after.sequence + 1)
        self._replay_id = replay.id
        #: Events in the file, and id after which the replay goes on; None: from its beginning.
        self.events = 0
        self.last_id: str | None = None
        self.finished = _finished_manifest(path) is not None
        if self.finished:
            raise Failure(f"{path} is complete.", code="file_complete", hint="Choose another file.")
        self._file: BinaryIO = path.open("r+b" if path.exists() else "x+b")
        try:
            self._resume(after.sequence)
        except BaseException:
            self._file.close()
            raise

    def write(self, event: ReplayedEvent) -> None:
        """Add an event; frames that are whole are written."""
        self._builder.add(decode_lines(event.body, f"the event {event.id}"))
        self.events += 1
        self._put(self._builder.take())

    def finish(self) -> SegmentManifest:
        """Write the rest and the manifest, and return it."""
        segment = self._builder.finish(self._until.sequence)
        self._put(segment.data)
        os.fsync(self._file.fileno())
        self.close()
        return segment.manifest

    def close(self) -> None:
        """Close the file; what was not written as a whole frame is sent again."""
        self._file.close()

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._file.flush()

    def _resume(self, after: int) -> None:
        """Read the whole frames, and cut off what follows them."""
        position = after
        try:
            for events in whole_frames(self._chunks()):
                for event in events:
                    if not position < event.sequence <= self._until.sequence:
                        raise SegmentInvalid(f"event {event.sequence} is not one of {self._replay_id}")
                    position = event.sequence
                self._builder.add(events)
                self.events += len(events)
        except SegmentInvalid as error:
            hint = "Choose another file, or remove this one."
            raise Failure(
                f"{self._path} is not a part of this replay: {error}.", code="file_differs", hint=hint
            ) from error
        if not self.events and self._path.stat().st_size:
            hint = "Choose another file, or remove this one."
            raise Failure(f"{self._path} exists, with no whole frame of a replay.", code="file_differs", hint=hint)
        self._file.seek(0)
        self._put(self._builder.take())
        self._file.truncate()
        if self.events:
            self.last_id = f"{self._replay_id}.{position}"

    def _chunks(self) -> Iterator[bytes]:
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK_BYTES):
            yield chunk


def _finished_manifest(path: Path) -> SegmentManifest | None:
    """Return the manifest of a file that was finished; None of any other."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            tail = _end_of(file, size, TAIL_BYTES)
            if (needed := tail_needed(tail, size)) > len(tail):
                tail = _end_of(file, size, needed)
            return read_index(tail, size).manifest
    except (OSError, SegmentInvalid):
        return None


def _end_of(file: BinaryIO, size_bytes: int, count_bytes: int) -> bytes:
    file.seek(max(0, size_bytes - count_bytes))
    return file.read()
