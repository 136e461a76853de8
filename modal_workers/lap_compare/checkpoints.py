"""Checkpoints of the read and align stages as .npz files, from which a later attempt resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from modal_workers.footage.video_reader import VideoFacts, VideoSource
from modal_workers.lap_compare.alignment.matching import AlignedClips
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.comparison import Alignment
from modal_workers.road_video.descriptors import ClipDescriptors

#: Arrays of ``ClipDescriptors``, stored once for each clip.
_DESCRIPTOR_ARRAYS: Final = ("time_s", "cells", "activity", "flow")


def save_features(path: Path, pair: tuple[ClipFeatures, ClipFeatures], warnings: tuple[str, ...]) -> None:
    """Write the features of both clips and the warnings of the read stage."""
    arrays: dict[str, Any] = {}
    for side, features in zip("ab", pair, strict=True):
        for name in _DESCRIPTOR_ARRAYS:
            arrays[f"{side}_{name}"] = getattr(features.descriptors, name)
    facts = {"clips": [dataclasses.asdict(features.clip) for features in pair], "warnings": warnings}
    np.savez(path, said=np.array(json.dumps(facts)), **arrays)


def load_features(
    path: Path, paths: tuple[VideoSource, VideoSource]
) -> tuple[tuple[ClipFeatures, ClipFeatures], tuple[str, ...]]:
    """Read what ``save_features`` wrote; ``paths`` are the current paths of the clips."""
    with np.load(path, allow_pickle=False) as stored:
        facts = json.loads(str(stored["said"]))
        pair = []
        for side, clip, clip_path in zip("ab", facts["clips"], paths, strict=True):
            descriptors = ClipDescriptors(**{name: stored[f"{side}_{name}"] for name in _DESCRIPTOR_ARRAYS})
            pair.append(ClipFeatures(clip_path, VideoFacts(**clip), descriptors))
    return (pair[0], pair[1]), tuple(facts["warnings"])


def save_alignment(path: Path, aligned: AlignedClips) -> None:
    """Write an alignment."""
    np.savez(path, relative_speed=aligned.relative_speed, **dataclasses.asdict(aligned.alignment))


def load_alignment(path: Path) -> AlignedClips:
    """Read what ``save_alignment`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        # a checkpoint of an earlier version may lack fields that have defaults
        fields = {field.name: stored[field.name] for field in dataclasses.fields(Alignment) if field.name in stored}
        values = {name: value if value.ndim else value.item() for name, value in fields.items()}
        return AlignedClips(Alignment(**values), stored["relative_speed"])
