"""A player in the picture: a ring and a trail on the floor, the skeleton or a frame, a label with the speed."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.players.persons import KEYPOINTS
from modal_workers.badminton.rendering.labels import Pixels
from modal_workers.badminton.rendering.mini_court import SHIFT, draw_trail
from modal_workers.badminton.rendering.palette import OUTLINE, WHITE, Colour, bgr

Floats = NDArray[np.float32]

#: Keypoints below are not drawn, as in the replaced system's page.
MIN_KEYPOINT_CONFIDENCE: Final = 0.3
RING_RADIUS_M: Final = 0.45

_JOINT = {name: number for number, name in enumerate(KEYPOINTS)}
LIMBS: Final = tuple(
    (_JOINT[a], _JOINT[b])
    for a, b in (
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"),
    )
)
_HEAD = (_JOINT["nose"], _JOINT["left_ear"], _JOINT["right_ear"])
_SHOULDERS = (_JOINT["left_shoulder"], _JOINT["right_shoulder"])
_CIRCLE: Final = np.stack(
    [np.cos(np.linspace(0, 2 * np.pi, 33)[:-1]), np.sin(np.linspace(0, 2 * np.pi, 33)[:-1])], axis=-1
)


def draw_ground(
    picture: Pixels, view: tuple[CourtView, float], trail_m: Floats, colour: Colour, thickness_px: float
) -> None:
    """Draw the trail [n, 2] of a player on the floor, and a ring around its last place.

    ``view`` is the court, and the size of this picture over that of the court's.
    """
    court, scale = view
    trail_px = (court.to_image(trail_m) + 0.5) * scale - 0.5
    draw_trail(picture, trail_px, colour, thickness_px)
    if not np.isfinite(trail_m[-1]).all():
        return
    ring_px = (court.to_image(trail_m[-1] + RING_RADIUS_M * _CIRCLE) + 0.5) * scale - 0.5
    if not np.isfinite(ring_px).all() or np.abs(ring_px).max() > 20_000:
        return
    points = np.rint(ring_px * (1 << SHIFT)).astype(np.int32)
    left, top = np.maximum(np.floor(ring_px.min(axis=0)).astype(int) - 4, 0)
    right, bottom = np.ceil(ring_px.max(axis=0)).astype(int) + 5
    part = picture[top : max(0, bottom), left : max(0, right)]
    if part.size:
        tinted = part.copy()
        offset = np.array((left, top)) << SHIFT
        cv2.fillPoly(tinted, [points - offset.astype(np.int32)], bgr(colour), cv2.LINE_AA, SHIFT)
        cv2.addWeighted(tinted, 0.32, part, 0.68, 0, dst=part)
    cv2.polylines(picture, [points], True, bgr(OUTLINE), max(2, round(thickness_px)), cv2.LINE_AA, SHIFT)
    cv2.polylines(picture, [points], True, bgr(colour), max(1, round(thickness_px) - 2), cv2.LINE_AA, SHIFT)


def draw_skeleton(picture: Pixels, keypoints_px: Floats, colour: Colour, thickness_px: float) -> bool:
    """Draw the keypoints [17, 3] of a player; return whether there were any."""
    seen = np.isfinite(keypoints_px).all(axis=-1) & (keypoints_px[:, 2] >= MIN_KEYPOINT_CONFIDENCE)
    points = np.rint(np.where(seen[:, None], keypoints_px[:, :2], 0) * (1 << SHIFT)).astype(np.int32)
    limbs = [points[[a, b]] for a, b in LIMBS if seen[a] and seen[b]]
    if not limbs:
        return False
    thick = max(2, round(thickness_px))
    cv2.polylines(picture, limbs, False, bgr(OUTLINE), thick + 2, cv2.LINE_AA, SHIFT)
    cv2.polylines(picture, limbs, False, bgr(colour), thick, cv2.LINE_AA, SHIFT)
    if seen[list(_HEAD)].any() and seen[list(_SHOULDERS)].all():
        head = points[[joint for joint in _HEAD if seen[joint]]].mean(axis=0)
        neck = points[list(_SHOULDERS)].mean(axis=0)
        radius = max(3 << SHIFT, int(0.42 * np.hypot(*(head - neck))))
        centre = (int(head[0]), int(head[1]))
        cv2.circle(picture, centre, radius, bgr(OUTLINE), thick + 2, cv2.LINE_AA, SHIFT)
        cv2.circle(picture, centre, radius, bgr(colour), thick, cv2.LINE_AA, SHIFT)
    joint_radius = round(0.62 * thick * (1 << SHIFT))
    for joint in np.flatnonzero(seen[5:]) + 5:
        centre = (int(points[joint, 0]), int(points[joint, 1]))
        cv2.circle(picture, centre, joint_radius, bgr(WHITE), -1, cv2.LINE_AA, SHIFT)
    return True


def draw_corners(picture: Pixels, box_px: Floats, colour: Colour, thickness_px: float) -> None:
    """Draw the corners of a box (left, top, right, bottom) around a player without a skeleton."""
    left, top, right, bottom = (float(value) for value in box_px)
    reach = 0.24 * min(right - left, bottom - top)
    strokes = [
        [(x, y + dy * reach), (x, y), (x + dx * reach, y)]
        for x, dx in ((left, 1), (right, -1))
        for y, dy in ((top, 1), (bottom, -1))
    ]
    lines = [np.rint(np.array(stroke) * (1 << SHIFT)).astype(np.int32) for stroke in strokes]
    thick = max(2, round(thickness_px))
    cv2.polylines(picture, lines, False, bgr(OUTLINE), thick + 2, cv2.LINE_AA, SHIFT)
    cv2.polylines(picture, lines, False, bgr(colour), thick, cv2.LINE_AA, SHIFT)
