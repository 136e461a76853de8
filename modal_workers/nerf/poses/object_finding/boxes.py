"""Boxes around points, turned about z: their margins, and the unseen back of an open arc. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import ObjectChoice
from modal_workers.nerf.photo_arcs import widest_gap_deg
from modal_workers.nerf.poses.object_finding.background_planes import BackgroundPlane
from modal_workers.nerf.poses.object_finding.foreground import Foreground

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Without an object: the radius of the sphere around the crossing.
_SPHERE: Final = 0.45
#: With a wider gap the object has a back that no photo shows; it ends this far behind its points.
_OPEN_BACK_DEG: Final = 150.0
_BACK_GAP: Final = 0.015
#: Where nothing is close behind, as a share of the depth of its points.
_UNSEEN_DEPTH: Final = 0.35
#: Margins around the box, as factors of its size; the largest with hardly any other point in it is used.
_MARGINS: Final = (1.9, 1.7, 1.5, 1.35, 1.25, 1.15)
_SMALL_MARGINS: Final = 3
_OTHERS_SHARE: Final = 0.04
#: A box whose points begin above the table by less than this many times their height reaches down to it: nothing
#: floats, so that what is below them is a plain part.
_FOOT: Final = 1.5
_UNKNOWN_FLOOR: Final = 0.02


def box_around(points: Floats, planes: Sequence[BackgroundPlane] = ()) -> ObjectChoice:
    """Return the smallest box around points [N, 3] that is turned about z, without stray ones.

    It reaches down to the table that it stands on.
    """
    shares = (2.0, 98.0) if len(points) > 50 else (0.0, 100.0)
    yaws = np.linspace(0, np.pi / 2, 18, endpoint=False)
    axes = np.stack([np.cos(yaws), np.sin(yaws), -np.sin(yaws), np.cos(yaws)]).reshape(2, 2, -1)
    turned = np.einsum("nc,acy->yan", points[:, :2], axes)  # [18, 2, N]
    low, high = np.percentile(turned, shares, axis=2)
    best = int(np.argmin(np.prod(high - low + 1e-3, axis=1)))
    yaw, middle, size = float(yaws[best]), (low + high)[best] / 2, (high - low)[best]
    bottom, top = (float(value) for value in np.percentile(points[:, 2], shares))
    x, y = (np.cos(yaw) * middle[0] - np.sin(yaw) * middle[1], np.sin(yaw) * middle[0] + np.cos(yaw) * middle[1])
    floors = [
        (plane.height - plane.normal[0] * x - plane.normal[1] * y) / plane.normal[2] for plane in planes if plane.level
    ]
    below = [float(floor) for floor in floors if floor < bottom]
    if below and max(below) > bottom - _FOOT * (top - bottom):
        bottom = max(below)
    elif not floors:  # the lowest points may be on a floor that was not recognised
        bottom += min(_UNKNOWN_FLOOR, 0.1 * (top - bottom))
    return ObjectChoice(
        name="object",
        centre=(float(x), float(y), (bottom + top) / 2),
        size=(float(size[0]), float(size[1]), top - bottom),
        yaw_rad=float(yaw),
        points=len(points),
        standing=0.0,
    )


def grown(choice: ObjectChoice, front: Foreground, *, plain_wall: bool = False) -> ObjectChoice:
    """Return a choice with the margin that holds nothing else: plain parts of an object have no points.

    Where a ``plain_wall`` may be behind it, it stays small: neither has that.
    """
    if choice.name == "all_around":
        return choice
    own = inside_box(choice, front.xyz, _MARGINS[-1], 0.01)
    for margin in _MARGINS[_SMALL_MARGINS * plain_wall :]:
        others = int((inside_box(choice, front.xyz, margin, 0.02) & ~own).sum())
        if others <= _OTHERS_SHARE * max(1, int(own.sum())):
            break
    return choice.model_copy(update={"margin": margin})


def inside_box(box: ObjectChoice, points: Floats, factor: float, more: float) -> Bools:
    """Return which points [N, 3] are inside of a box that is grown by a factor and a length, but not downwards.

    What an object stands on may have no points.
    """
    local, half = from_box(box, points), 0.5 * np.array(box.size)
    inside = (np.abs(local[:, :2]) < factor * half[:2] + more).all(1) & (local[:, 2] < factor * half[2] + more)
    return np.asarray(inside & (local[:, 2] > -half[2]))


def from_box(box: ObjectChoice, points: Floats) -> Floats:
    """Return points [N, 3] from the centre of a box along its sides."""
    offset = points - np.array(box.centre)
    cosine, sine = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
    return np.stack(
        [cosine * offset[:, 0] + sine * offset[:, 1], cosine * offset[:, 1] - sine * offset[:, 0], offset[:, 2]], 1
    )


def all_around(points: Floats) -> ObjectChoice:
    """Return what is used where no object was found: the middle of what all photos look at."""
    side = 2 * _SPHERE / 3**0.5
    return ObjectChoice(
        name="all_around",
        centre=(0.0, 0.0, 0.0),
        size=(side, side, side),
        points=int((np.linalg.norm(points, axis=1) < _SPHERE).sum()),
        standing=0.0,
        margin=1.0,
    )


def has_open_back(cameras: Floats) -> bool:
    """Return whether the photos from these places [V, 3] leave so much open that the object has an unseen back."""
    return widest_gap_deg(cameras) > _OPEN_BACK_DEG


def unseen_back(
    boxes: Sequence[ObjectChoice], points: Floats, cameras: Floats, *, known: bool = False
) -> list[BackgroundPlane]:
    """Return where the back of an open arc begins: no photo shows what is behind the points there.

    Args:
        boxes: What may be meant.
        points: [N, 3] the foreground.
        cameras: [V, 3]
        known: Whether points show that nothing is close behind: then the object may be deeper than its points.
    """
    if not has_open_back(cameras):
        return []
    towards = cameras.mean(axis=0) * (1.0, 1.0, 0.0)
    length = float(np.linalg.norm(towards))
    held = np.zeros(len(points), bool)
    for box in boxes:
        held |= inside_box(box, points, 1.0, 0.005)
    if length < 1e-6 or not held.any():
        return []
    normal = towards / length
    front, back = np.percentile(points[held] @ normal, [99.0, 1.0])
    height = float(back) - max(_BACK_GAP, _UNSEEN_DEPTH * float(front - back) * known)
    return [BackgroundPlane(np.asarray(normal), height, 0.0, 0)]
