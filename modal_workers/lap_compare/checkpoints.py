"""Keeps what the read and align stages made as .npz files, so that a lost run's successor goes on from there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from modal_workers.lap_compare.alignment.matching import AlignedClips
from modal_workers.lap_compare.clips.descriptors import ClipDescriptors
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.comparison import Alignment, Clip


def save_features(path: Path, described: tuple[ClipFeatures, ClipFeatures], warnings: tuple[str, ...]) -> None:
    """Write two described clips and what was said while reading them."""
    arrays: dict[str, Any] = {}
    for side, one in zip("ab", described, strict=True):
        for name in ("time_s", "cells", "activity", "flow"):
            arrays[f"{side}_{name}"] = getattr(one.description, name)
    said = {"clips": [dataclasses.asdict(one.clip) for one in described], "warnings": warnings}
    np.savez(path, said=np.array(json.dumps(said)), **arrays)


def load_features(path: Path, paths: tuple[Path, Path]) -> tuple[tuple[ClipFeatures, ClipFeatures], tuple[str, ...]]:
    """Read what ``save_described`` wrote; ``paths`` are where the clips lie now."""
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(str(stored["said"]))
        sides = []
        for side, clip, where in zip("ab", said["clips"], paths, strict=True):
            names = ("time_s", "cells", "activity", "flow")
            description = ClipDescriptors(**{name: stored[f"{side}_{name}"] for name in names})
            sides.append(ClipFeatures(where, Clip(**clip), description))
    return (sides[0], sides[1]), tuple(said["warnings"])


def save_alignment(path: Path, matched: AlignedClips) -> None:
    """Write an alignment."""
    np.savez(path, relative_speed=matched.relative_speed, **dataclasses.asdict(matched.alignment))


def load_alignment(path: Path) -> AlignedClips:
    """Read what ``save_matched`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        fields = {field.name: stored[field.name] for field in dataclasses.fields(Alignment)}
        values = {name: value if value.ndim else value.item() for name, value in fields.items()}
        return AlignedClips(Alignment(**values), stored["relative_speed"])
