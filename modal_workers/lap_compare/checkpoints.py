"""Keeps what the read and align stages made as .npz files, so that a lost run's successor goes on from there."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from modal_workers.lap_compare.alignment.matching import Matched
from modal_workers.lap_compare.clips.descriptors import Description
from modal_workers.lap_compare.clips.feature_extraction import Described
from modal_workers.lap_compare.comparison import Alignment, Clip


def save_described(path: Path, described: tuple[Described, Described], warnings: tuple[str, ...]) -> None:
    """Write two described clips and what was said while reading them."""
    arrays: dict[str, Any] = {}
    for side, one in zip("ab", described, strict=True):
        for name in ("time_s", "cells", "activity", "flow"):
            arrays[f"{side}_{name}"] = getattr(one.description, name)
    said = {"clips": [dataclasses.asdict(one.clip) for one in described], "warnings": warnings}
    np.savez(path, said=np.array(json.dumps(said)), **arrays)


def load_described(path: Path, paths: tuple[Path, Path]) -> tuple[tuple[Described, Described], tuple[str, ...]]:
    """Read what ``save_described`` wrote; ``paths`` are where the clips lie now."""
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(str(stored["said"]))
        sides = []
        for side, clip, where in zip("ab", said["clips"], paths, strict=True):
            names = ("time_s", "cells", "activity", "flow")
            description = Description(**{name: stored[f"{side}_{name}"] for name in names})
            sides.append(Described(where, Clip(**clip), description))
    return (sides[0], sides[1]), tuple(said["warnings"])


def save_matched(path: Path, matched: Matched) -> None:
    """Write an alignment."""
    np.savez(path, relative_speed=matched.relative_speed, **dataclasses.asdict(matched.alignment))


def load_matched(path: Path) -> Matched:
    """Read what ``save_matched`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        fields = {field.name: stored[field.name] for field in dataclasses.fields(Alignment)}
        values = {name: value if value.ndim else value.item() for name, value in fields.items()}
        return Matched(Alignment(**values), stored["relative_speed"])
