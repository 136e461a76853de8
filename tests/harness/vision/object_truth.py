"""Whether the found object is the true one of a simulated sparse capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import FoundObject, ObjectChoice
from modal_workers.nerf.poses.object_finding.boxes import inside_box
from modal_workers.nerf.poses.world_frame import find_world_frame
from simulators.toy.sparse_captures import SparseCapture

Floats = NDArray[np.float64]

#: An object is found with this share of its surface inside, and this share of what is inside its own.
WHOLE = 0.8
PURE = 0.7
_GAP = 0.02


def posed(capture: SparseCapture) -> SparseCapture:
    """Return a capture in the frame of the poses stage."""
    images = capture.model.images
    poses = np.array([image.world_from_camera for image in images])
    frame = find_world_frame(poses)
    matrix, moved = frame.matrix(), frame.moved(poses)
    model = replace(
        capture.model,
        images=tuple(replace(image, world_from_camera=pose) for image, pose in zip(images, moved, strict=True)),
        xyz=capture.model.xyz @ matrix[:, :3].T + matrix[:, 3],
    )
    return replace(capture, model=model, surface=capture.surface @ matrix[:, :3].T + matrix[:, 3])


@dataclass(frozen=True)
class Agreement:
    """Share of an object's surface that a choice holds, and share of what it holds that is of the object."""

    whole: float
    pure: float

    @property
    def right(self) -> bool:
        return self.whole >= WHOLE and self.pure >= PURE


def agreement(capture: SparseCapture, found: FoundObject, choice: ObjectChoice, labels: Sequence[int]) -> Agreement:
    """Compare a choice, in front of the background that was found, with the surface of objects."""
    held = inside_box(choice, capture.surface, choice.margin, _GAP)
    for plane in found.background:
        held &= capture.surface @ np.array(plane.normal) - plane.height > min(plane.gap, 0.004)
    own = np.isin(capture.surface_labels, labels)
    both = int((held & own).sum())
    return Agreement(both / max(1, int(own.sum())), both / max(1, int(held.sum())))


def is_right(capture: SparseCapture, found: FoundObject) -> bool:
    """Return whether what is used is the object that the photos are aimed at; of two, nobody knows which."""
    return not capture.equal and agreement(capture, found, found.chosen, [0]).right


def shows_the_truth(capture: SparseCapture, found: FoundObject) -> bool:
    """Return whether each object that may be meant is among the choices."""
    return all(
        any(agreement(capture, found, choice, [label]).right for choice in found.choices)
        for label in range(capture.objects)
    )
