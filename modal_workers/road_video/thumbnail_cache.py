"""Thumbnails of a clip on disk, written while it is decoded, so that the mount correction needs no second decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.picture_decoder import decode_picture

Picture = NDArray[np.uint8]

#: As JPEG a thumbnail takes a tenth of its size; descriptors use half its width, where artifacts are invisible.
JPEG_QUALITY: Final = 92


class ThumbnailCache:
    """Thumbnails in one file, in order of their times."""

    def __init__(self, path: Path) -> None:
        """Create an empty file."""
        self._path = path
        self._file = path.open("wb")
        self._times_s: list[float] = []
        self._ends: list[int] = []

    def add(self, time_s: float, grey: Picture) -> None:
        """Store a thumbnail; its time is later than those before.

        Raises:
            OSError: the disk is full.
        """
        _, encoded = cv2.imencode(".jpg", grey, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
        self._file.write(encoded.tobytes())
        self._times_s.append(time_s)
        self._ends.append(self._file.tell())

    def close(self) -> None:
        """End writing; thumbnails can be read from now on."""
        self._file.close()

    def at(self, times_s: Sequence[float]) -> Iterator[Picture]:
        """Return the thumbnails nearest to these times, in order."""
        known = np.asarray(self._times_s)
        wanted = np.asarray(times_s)
        halfway = (known[1:] + known[:-1]) / 2
        with self._path.open("rb") as file:
            for number in np.searchsorted(halfway, wanted):
                start = self._ends[number - 1] if number else 0
                file.seek(start)
                encoded = file.read(self._ends[number] - start)
                yield np.asarray(decode_picture(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)
