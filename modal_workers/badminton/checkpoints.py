"""Checkpoints of the stages as .npz files, from which a later attempt resumes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.footage.video_reader import VideoFacts

Picture = NDArray[np.uint8]

#: Colours at full resolution: they are compared with those of decoded pictures.
JPEG: Final = (
    cv2.IMWRITE_JPEG_QUALITY,
    97,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@dataclass(frozen=True)
class CourtStage:
    """Result of the court stage. ``pictures``: some small BGR pictures of each analysed segment, by its number."""

    facts: VideoFacts
    times: FrameTimes
    segments: tuple[CameraSegmentResult, ...]
    pictures: Mapping[int, tuple[Picture, ...]]
    warnings: tuple[str, ...]

    @property
    def courts(self) -> list[tuple[int, int, CourtView]]:
        """Analysed segments: first frame, last frame (included), court."""
        return [(each.first_frame, each.last_frame, each.court) for each in self.segments if each.court is not None]

    @property
    def analysed(self) -> NDArray[np.bool_]:
        """Whether each frame belongs to an analysed segment, [N]."""
        found = np.zeros(len(self.times), np.bool_)
        for first, last, _ in self.courts:
            found[first : last + 1] = True
        return found

    @property
    def picture_size_px(self) -> tuple[int, int]:
        """Width and height of the upright full-size picture."""
        return self.facts.width_px, self.facts.height_px


@dataclass(frozen=True)
class TrackStage:
    """Result of the track stage; None for what was not looked for."""

    players: PlayerTracks | None
    shuttle: ShuttleTrack | None
    warnings: tuple[str, ...]


def save_court(path: Path, stage: CourtStage) -> None:
    """Write the court stage; its pictures are stored as JPEG."""
    arrays: dict[str, Any] = {"time_s": stage.times.time_s, "source_frame": stage.times.source_frame}
    segments = []
    for number, segment in enumerate(stage.segments):
        fields = {field.name: getattr(segment, field.name) for field in dataclasses.fields(segment)}
        court, track = fields.pop("court"), fields.pop("track")
        if track is not None:
            arrays[f"track_{number}"] = track.image_from_court
        if court is not None:
            arrays[f"court_{number}"] = court.image_from_court
            fields["court"] = {
                field.name: getattr(court, field.name)
                for field in dataclasses.fields(court)
                if field.name != "image_from_court"
            }
        segments.append(fields)
    # Segments of one view share their pictures; the segment that they are stored for.
    stored_for: dict[int, int] = {}
    for number, pictures in stage.pictures.items():
        if stored_for.setdefault(id(pictures), number) == number:
            for index, picture in enumerate(pictures):
                arrays[f"picture_{number}_{index}"] = cv2.imencode(".jpg", picture, JPEG)[1]
    pictures_of = {number: stored_for[id(pictures)] for number, pictures in stage.pictures.items()}
    said = {
        "facts": dataclasses.asdict(stage.facts),
        "segments": segments,
        "warnings": stage.warnings,
        "pictures_of": list(pictures_of.items()),
    }
    np.savez(path, said=np.array(json.dumps(said)), **arrays)


def load_court(path: Path) -> CourtStage:
    """Read what ``save_court`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(str(stored["said"]))
        segments = []
        for number, fields in enumerate(said["segments"]):
            court = fields.pop("court", None)
            view = CourtView(image_from_court=stored[f"court_{number}"], **court) if court is not None else None
            track = None
            if f"track_{number}" in stored.files:
                track = HomographyTrack(fields["first_frame"], stored[f"track_{number}"])
            segments.append(CameraSegmentResult(**fields, court=view, track=track))
        pictures: dict[int, tuple[Picture, ...]] = {}
        for name in stored.files:
            if name.startswith("picture_"):
                number = int(name.split("_")[1])
                picture = np.asarray(decode_picture(stored[name], cv2.IMREAD_COLOR), np.uint8)
                pictures[number] = (*pictures.get(number, ()), picture)
        pictures_of = {number: pictures.get(other, ()) for number, other in said["pictures_of"]}
        return CourtStage(
            VideoFacts(**said["facts"]),
            FrameTimes(stored["time_s"], stored["source_frame"]),
            tuple(segments),
            pictures_of,
            tuple(said["warnings"]),
        )


def save_tracks(path: Path, stage: TrackStage) -> None:
    """Write the track stage."""
    arrays: dict[str, Any] = {}
    for prefix, value in (("players", stage.players), ("shuttle", stage.shuttle)):
        if value is not None:
            named = {f"{prefix}_{field.name}": getattr(value, field.name) for field in dataclasses.fields(value)}
            arrays |= {name: array for name, array in named.items() if array is not None}
    # Of an array that repeats one value (skeletons where there are none) only that is stored.
    shapes = {name: array.shape for name, array in arrays.items() if array.size and not any(array.strides)}
    arrays |= {name: arrays[name][(0,) * len(shape)] for name, shape in shapes.items()}
    np.savez(path, said=np.array(json.dumps({"warnings": stage.warnings, "shapes": shapes})), **arrays)


def load_tracks(path: Path) -> TrackStage:
    """Read what ``save_tracks`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(str(stored["said"]))

        def array(name: str) -> NDArray[Any]:
            shape = said["shapes"].get(name)
            return np.asarray(stored[name]) if shape is None else np.broadcast_to(stored[name], tuple(shape))

        def read(prefix: str, kind: Any) -> Any:
            names = [field.name for field in dataclasses.fields(kind)]
            if f"{prefix}_{names[0]}" not in stored.files:
                return None
            return kind(**{name: array(f"{prefix}_{name}") for name in names if f"{prefix}_{name}" in stored.files})

        return TrackStage(read("players", PlayerTracks), read("shuttle", ShuttleTrack), tuple(said["warnings"]))
