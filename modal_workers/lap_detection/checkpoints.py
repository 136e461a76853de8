"""Checkpoint of the read stage as .npz, from which a later attempt resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from modal_workers.footage.video_reader import VideoFacts
from modal_workers.road_video.descriptors import ClipDescriptors

_ARRAYS: Final = ("time_s", "cells", "activity", "flow")

Description = tuple[VideoFacts, ClipDescriptors, tuple[str, ...]]


def save_description(path: Path, description: Description) -> None:
    """Write facts, descriptors and warnings of a video."""
    facts, descriptors, warnings = description
    arrays: dict[str, Any] = {name: getattr(descriptors, name) for name in _ARRAYS}
    said = {"facts": dataclasses.asdict(facts), "warnings": warnings}
    np.savez(path, said=np.array(json.dumps(said)), **arrays)


def load_description(path: Path) -> Description:
    """Read what ``save_description`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        said = json.loads(str(stored["said"]))
        descriptors = ClipDescriptors(**{name: stored[name] for name in _ARRAYS})
    return VideoFacts(**said["facts"]), descriptors, tuple(said["warnings"])
