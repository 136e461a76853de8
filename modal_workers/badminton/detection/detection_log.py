"""Storage of the detections of a video: one file for each stretch of frames, joined at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import PersonLog
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog

Arrays = dict[str, NDArray[Any]]

_PERSON_ARRAYS = ("boxes_px", "confidence", "keypoints_px", "appearance")
_CANDIDATE_ARRAYS = ("position_px", "score")


@dataclass(frozen=True)
class FramePersons:
    """Persons of one frame: rows of a ``PersonLog``."""

    boxes_px: NDArray[np.float32]
    confidence: NDArray[np.float32]
    keypoints_px: NDArray[np.float32]
    appearance: NDArray[np.float32]

    @classmethod
    def none(cls, appearance_length: int) -> FramePersons:
        """Return the entry of a frame without persons."""
        zero = np.zeros(0, np.float32)
        return cls(zero.reshape(0, 4), zero, zero.reshape(0, 17, 3), np.zeros((0, appearance_length), np.float32))


@dataclass(frozen=True)
class FrameCandidates:
    """Shuttle candidates of one frame: rows of a ``CandidateLog``."""

    position_px: NDArray[np.float32]
    score: NDArray[np.float32]

    @classmethod
    def none(cls) -> FrameCandidates:
        """Return the entry of a frame without candidates."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Detections:
    """Persons and shuttle candidates of all frames."""

    persons: PersonLog
    candidates: CandidateLog


def save_detections(path: Path, persons: Sequence[FramePersons], candidates: Sequence[FrameCandidates]) -> None:
    """Write the detections of consecutive frames."""
    arrays: dict[str, Any] = {
        "person_counts": np.array([len(each.confidence) for each in persons], np.int32),
        "candidate_counts": np.array([len(each.score) for each in candidates], np.int32),
    }
    for name in _PERSON_ARRAYS:
        arrays[f"person_{name}"] = np.concatenate([getattr(each, name) for each in persons])
    for name in _CANDIDATE_ARRAYS:
        arrays[f"candidate_{name}"] = np.concatenate([getattr(each, name) for each in candidates])
    np.savez(path, **arrays)


def load_detections(paths: Sequence[Path]) -> Detections:
    """Join the files of consecutive stretches, in order."""
    parts: list[Arrays] = []
    for path in paths:
        with np.load(path, allow_pickle=False) as stored:
            parts.append({name: stored[name] for name in stored.files})

    def joined(name: str) -> NDArray[Any]:
        # Taken out, so that no more than one array exists twice at a time.
        return np.concatenate([part.pop(name) for part in parts])

    def offsets(name: str) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(joined(name), dtype=np.int64)])

    persons = PersonLog(offsets("person_counts"), *(joined(f"person_{name}") for name in _PERSON_ARRAYS))
    candidates = CandidateLog(offsets("candidate_counts"), *(joined(f"candidate_{name}") for name in _CANDIDATE_ARRAYS))
    return Detections(persons, candidates)
