"""Rows of frames.csv, with how well photos show each frame: read from the JSON beside the batches, then written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.photo_arcs import frame_is_seen

_COLUMNS: Final = (
    "frame",
    "file",
    "batch",
    "azimuth_deg",
    "elevation_deg",
    "nearest_photo_deg",
    "seen_share",
    "seen",
    "coverage",
)
#: Units of the columns that have one.
UNITS: Final = {"azimuth_deg": "deg", "elevation_deg": "deg", "nearest_photo_deg": "deg"}


@dataclass(frozen=True)
class FrameRow:
    """A frame, from where it shows the object, and how well photos show that; None where it is unknown."""

    index: int
    name: str
    batch: str
    azimuth_deg: float
    elevation_deg: float
    nearest_photo_deg: float | None
    seen_share: float | None
    coverage: float | None

    @property
    def seen(self) -> bool | None:
        """Whether photos show what the frame shows."""
        return frame_is_seen(self.nearest_photo_deg, self.seen_share)


def read_shown_frames(batches: int, fetch: Callable[[str], Path | None]) -> list[FrameRow]:
    """Read the frames of all batches in order; ``fetch`` returns an artifact as a local file.

    Raises:
        SaccadeError: INTERNAL, the JSON beside a batch is missing.
    """
    frames = []
    for batch in range(batches):
        name = f"batch_{batch:02d}"
        path = fetch(f"frames/{name}.json")
        if path is None:
            raise SaccadeError(ErrorCode.INTERNAL, f"frames/{name}.json of the rendering stage is missing.")
        for frame in json.loads(path.read_text(encoding="utf-8"))["frames"]:
            known = {field: frame.get(field) for field in ("nearest_photo_deg", "seen_share", "coverage")}
            azimuth, elevation = float(frame["azimuth_deg"]), float(frame["elevation_deg"])
            frames.append(FrameRow(frame["index"], frame["name"], f"{name}.zip", azimuth, elevation, **known))
    return frames


def write_frames_csv(path: Path, frames: Sequence[FrameRow]) -> None:
    """Write one row per frame; what is unknown is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        for frame in frames:
            seen = "" if frame.seen is None else str(frame.seen).lower()
            place = (round(frame.azimuth_deg, 4), round(frame.elevation_deg, 4))
            shown = (frame.nearest_photo_deg, frame.seen_share, seen, frame.coverage)
            rows.writerow((frame.index, frame.name, frame.batch, *place, *shown))
