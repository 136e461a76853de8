"""Finds the object that a point or a box in one photo tells. Pure; the frame is that of the poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import Doubt, FoundObject, ObjectChoice, ObjectEvidence
from modal_workers.nerf.poses.colmap.model_files import RegisteredImage, SparseModel
from modal_workers.nerf.poses.object_finding.background_planes import BackgroundPlane, find_background_planes
from modal_workers.nerf.poses.object_finding.boxes import box_around, grown, has_open_back, unseen_back
from modal_workers.nerf.poses.object_finding.candidates import ObjectCandidate, find_candidates, stands_beside, within
from modal_workers.nerf.poses.object_finding.finding import DOUBTFUL_BELOW, figures, find_object, named
from modal_workers.nerf.poses.object_finding.foreground import Foreground, foreground

Floats = NDArray[np.float64]

#: A point counts as clicked within this share of the photo's long side; points behind it by more than this do not.
_CLICKED: Final = 0.035
_BEHIND: Final = 0.12
_CLICKED_POINTS: Final = 5
#: A group stands apart from its neighbours from this separation on.
_APART: Final = 0.25
#: Agreement of a group with the box, from which on it is the object.
_AGREES: Final = 0.4


@dataclass(frozen=True)
class PlacedHint:
    """A hint in a photo of the capture: x and y, or left, top, right and bottom, as fractions of the photo."""

    #: Name of the photo in the model.
    file: str
    values: tuple[float, ...]


def find_hinted_object(model: SparseModel, hint: PlacedHint, *, seed: int = 0) -> FoundObject:
    """Return the object of the hint; where there is none, what the cameras look at, with the reason as a doubt."""
    image = next((image for image in model.images if image.name == hint.file), None)
    if image is None:
        return _doubted(find_object(model, seed=seed), "hint_photo_left_out")
    planes = find_background_planes(model.xyz, model.centres, seed=seed)
    front = foreground(model, planes, seed=seed)
    candidates = find_candidates(front, planes)
    if len(hint.values) == 2:
        choice, separation = _clicked(model, image, hint.values, front, candidates)
    else:
        choice, separation = _boxed(image, hint.values, front, candidates, planes)
    if choice is None:
        found = find_object(model, seed=seed)
        if len(hint.values) > 2:
            found = found.model_copy(update={"choices": (_sphere_in(image, hint.values), *found.choices)})
        return _doubted(found, "hint_without_points")
    evidence = ObjectEvidence(
        aim=1.0, depth=1.0, foreground=1.0, separation=separation, alone=1.0, points=min(1.0, choice.points / 40.0)
    )
    confidence = max(DOUBTFUL_BELOW, (separation * evidence.points) ** 0.5)
    choice = grown(choice, front, plain_wall=has_open_back(model.centres))
    return FoundObject(
        source="hint",
        confidence=round(confidence, 4),
        evidence=evidence,
        choices=(choice,),
        background=figures([*planes, *unseen_back([choice], front.xyz, model.centres)]),
    )


def _doubted(found: FoundObject, doubt: Doubt) -> FoundObject:
    return found.model_copy(update={"doubt": doubt, "confidence": min(found.confidence, 0.99 * DOUBTFUL_BELOW)})


def _fractions_in(image: RegisteredImage, points: Floats) -> tuple[Floats, Floats]:
    """Return where points [N, 3] are in a photo with its distortion, as fractions [N, 2], and their depths [N]."""
    if not len(points):
        return np.zeros((0, 2)), np.zeros(0)
    camera_from_world = np.linalg.inv(image.world_from_camera)
    depth = points @ camera_from_world[2, :3] + camera_from_world[2, 3]
    rotation = cv2.Rodrigues(camera_from_world[:3, :3])[0]
    camera = image.camera
    pixels = cv2.projectPoints(
        points, rotation, camera_from_world[:3, 3], camera.matrix, np.array(camera.distortion, np.float64)
    )[0][:, 0]
    return pixels / (camera.width_px, camera.height_px), depth


def _clicked(
    model: SparseModel,
    image: RegisteredImage,
    at: Sequence[float],
    front: Foreground,
    candidates: list[ObjectCandidate],
) -> tuple[ObjectChoice | None, float]:
    """Return the object under a point: of the nested groups that hold it, the largest that stands apart."""
    camera = image.camera
    size = np.array([camera.width_px, camera.height_px]) / max(camera.width_px, camera.height_px)
    place = model.images.index(image)
    seen = model.observations[1][model.observations[0] == place]
    fractions, depth = _fractions_in(image, model.xyz)
    away = np.linalg.norm((fractions - at) * size, axis=1)
    away[depth <= 0] = np.inf
    is_front = np.isin(np.arange(len(model.xyz)), front.places)
    for reach in (0.4 * _CLICKED, _CLICKED, 2 * _CLICKED):
        near = np.flatnonzero((away < reach) & is_front)
        if len(near) >= _CLICKED_POINTS:
            break
    # A background point that this photo shows right there says that the click is beside everything.
    background = seen[~is_front[seen]]
    if not len(near) or (len(background) and away[background].min() < 0.3 * away[near].min()):
        return None, 0.0
    near = near[depth[near] < depth[near].min() + _BEHIND]
    near = near[np.argsort(away[near])][:_CLICKED_POINTS]
    members = np.searchsorted(front.places, near)
    held = [c for c in candidates if np.isin(members, c.group.members).mean() > 0.5]
    if not held:
        return None, 0.0
    best = max(held, key=lambda candidate: len(candidate.group.members))
    while True:
        inner = [
            other
            for other in held
            if within(other, best)
            and other.apart > _APART
            and not other.floats
            and stands_beside(front, other, np.setdiff1d(best.group.members, other.group.members))
        ]
        if not inner:
            return named(best, "object"), best.separation
        best = max(inner, key=lambda candidate: len(candidate.group.members))


def _boxed(
    image: RegisteredImage,
    sides: Sequence[float],
    front: Foreground,
    candidates: list[ObjectCandidate],
    planes: Sequence[BackgroundPlane],
) -> tuple[ObjectChoice | None, float]:
    """Return the object in a box: the group that agrees best with the points in it, or those points."""
    fractions, depth = _fractions_in(image, front.xyz)
    left, top, right, bottom = sides
    held = (depth > 0) & (fractions[:, 0] > left) & (fractions[:, 0] < right)
    held &= (fractions[:, 1] > top) & (fractions[:, 1] < bottom)
    if int(held.sum()) < _CLICKED_POINTS:
        return None, 0.0

    def agreement(candidate: ObjectCandidate) -> float:
        both = int(held[candidate.group.members].sum())
        return 2 * both / (len(candidate.group.members) + int(held.sum()))

    best = max(candidates, key=agreement, default=None)
    if best is not None and agreement(best) > _AGREES:
        return named(best, "object"), best.separation
    # No group of its own: the points in the box, without those far behind the nearest ones.
    nearest = float(np.percentile(depth[held], 20))
    width = 0.5 * max(right - left, bottom - top) * nearest * max(image.camera.width_px, image.camera.height_px)
    chosen = held & (np.abs(depth - nearest) < max(0.1, width / image.camera.focal_px[0]))
    return box_around(front.xyz[chosen], planes), 0.3


def _sphere_in(image: RegisteredImage, sides: Sequence[float]) -> ObjectChoice:
    """Return a cube that fills a box in a photo, as far away as the crossing."""
    camera, (left, top, right, bottom) = image.camera, sides
    depth = float(-image.centre @ image.world_from_camera[:3, 2])
    u, v = (left + right) / 2 * camera.width_px, (top + bottom) / 2 * camera.height_px
    ray = np.linalg.inv(camera.matrix) @ np.array([u, v, 1.0]) * depth
    centre = image.world_from_camera[:3, :3] @ ray + image.centre
    side = max((right - left) * camera.width_px, (bottom - top) * camera.height_px) / camera.focal_px[0] * abs(depth)
    return ObjectChoice(
        name="object",
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        size=(side, side, side),
        points=0,
        standing=0.0,
        margin=1.0,
    )
