"""The ground truth of a match video: for every frame, and as lists of hits, rallies and segments."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.match_options import MatchOptions
from simulators.badminton.play.match_script import TrueRally

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]
Codes = NDArray[np.uint8]
SegmentKind = Literal["play", "replay", "close-up", "crowd", "black"]


@dataclass(frozen=True)
class TrueHit:
    """A hit; ``frame`` is the frame nearest in time."""

    time_s: float
    frame: int
    player: int
    xyz_m: tuple[float, float, float]
    shot: str


@dataclass(frozen=True)
class TrueSegment:
    """A stretch of the video with one kind of picture; ``play`` is the camera that films the court."""

    start_s: float
    end_s: float
    kind: SegmentKind


@dataclass(frozen=True, eq=False)
class FrameTruth:
    """The truth of one frame; the arrays are those of ``MatchTruth`` without the frames' axis."""

    index: int
    time_s: float
    segment: SegmentKind
    #: None where the picture does not show the court from the play's camera.
    image_from_court: Floats | None
    image_from_world: Floats | None
    positions_m: Floats
    keypoints_px: Floats
    keypoints_visible: Masks
    boxes_px: Floats
    bystander_boxes_px: Floats
    shuttle_m: Floats
    shuttle_px: Floats
    shuttle_visible: bool
    shuttle_state: int


@dataclass(frozen=True, eq=False)
class MatchTruth:
    """The truth of a video of N frames with P players and B bystanders. Pixels are those of the upright picture.

    Pixels and camera are NaN (``visible`` False) in segments of other kinds than ``play``; metres are known always.
    A person keeps the number through changes of ends.
    """

    options: MatchOptions
    time_s: Floats  # [N]
    #: [N, 3, 3]; also NaN where the scene has no badminton court.
    image_from_court: Floats
    image_from_world: Floats  # [N, 3, 4]
    #: [P, N, 2]: the mean of both ankles, projected vertically onto the floor. This is a player's position.
    positions_m: Floats
    #: [P, N, 2]: the middle of the hips, projected vertically onto the floor.
    hips_m: Floats
    speeds_mps: Floats  # [P, N]: of the hips over the floor
    keypoints_px: Floats  # [P, N, 17, 2], COCO order, also outside of the picture
    keypoints_visible: Masks  # [P, N, 17]: inside the picture; what others hide counts as visible
    boxes_px: Floats  # [P, N, 4] x0, y0, x1, y1: the person without the racket, cut off at the edges; NaN outside
    bystander_boxes_px: Floats  # [B, N, 4]
    shuttle_m: Floats  # [N, 3]; NaN where there is none
    shuttle_px: Floats  # [N, 2]
    shuttle_visible: Masks  # [N]: inside the picture and not behind a player
    shuttle_state: Codes  # [N]: 0 none, 1 in flight, 2 on the floor, 3 in a hand
    shuttle_speeds_mps: Floats  # [N]
    hits: tuple[TrueHit, ...]
    #: Hits in pauses, with which the shuttle is given back: no part of a rally.
    passes: tuple[TrueHit, ...]
    rallies: tuple[TrueRally, ...]
    segments: tuple[TrueSegment, ...]
    #: Start and end of each change of ends.
    changes_of_ends_s: tuple[tuple[float, float], ...] = ()

    def segment_at(self, time_s: float) -> TrueSegment:
        """Return the segment that a time is in."""
        return next(
            (segment for segment in self.segments if segment.start_s <= time_s < segment.end_s), self.segments[-1]
        )

    def frame(self, index: int) -> FrameTruth:
        """Return the truth of one frame."""
        court, world = self.image_from_court[index], self.image_from_world[index]
        return FrameTruth(
            index=index,
            time_s=float(self.time_s[index]),
            segment=self.segment_at(float(self.time_s[index])).kind,
            image_from_court=None if np.isnan(court).any() else court,
            image_from_world=None if np.isnan(world).any() else world,
            positions_m=self.positions_m[:, index],
            keypoints_px=self.keypoints_px[:, index],
            keypoints_visible=self.keypoints_visible[:, index],
            boxes_px=self.boxes_px[:, index],
            bystander_boxes_px=self.bystander_boxes_px[:, index],
            shuttle_m=self.shuttle_m[index],
            shuttle_px=self.shuttle_px[index],
            shuttle_visible=bool(self.shuttle_visible[index]),
            shuttle_state=int(self.shuttle_state[index]),
        )

    def save(self, path: Path) -> None:
        """Write the arrays to ``path`` with the suffix .npz and the lists to the suffix .json."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "options"}
        arrays: dict[str, Any] = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
        lists = {name: value for name, value in values.items() if name not in arrays}
        document = {name: [_plain(item) for item in value] for name, value in lists.items()}
        path.with_suffix(".json").write_text(json.dumps({"options": asdict(self.options), **document}, indent=1))

    @classmethod
    def load(cls, path: Path) -> MatchTruth:
        """Read what ``save`` has written."""
        document = json.loads(path.with_suffix(".json").read_text())
        options = document["options"]
        if options["black_s"] is not None:
            options["black_s"] = tuple(options["black_s"])
        with np.load(path.with_suffix(".npz")) as arrays:
            return cls(
                options=MatchOptions(**options),
                hits=tuple(_hit(item) for item in document["hits"]),
                passes=tuple(_hit(item) for item in document["passes"]),
                rallies=tuple(TrueRally(**{**item, "score": tuple(item["score"])}) for item in document["rallies"]),
                segments=tuple(TrueSegment(**item) for item in document["segments"]),
                changes_of_ends_s=tuple(tuple(item) for item in document["changes_of_ends_s"]),
                **{name: arrays[name] for name in arrays.files},
            )


def _plain(item: Any) -> Any:
    return item if isinstance(item, tuple) else asdict(item)


def _hit(item: dict[str, Any]) -> TrueHit:
    return TrueHit(**{**item, "xyz_m": tuple(item["xyz_m"])})
