"""Trunk, head and racket of a drawn person."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.badminton.body.skeleton import JOINTS, RACKET_HEAD_M
from simulators.badminton.picture.figure import CIRCLE, SHIFT, Figure, Outline, fixed
from simulators.badminton.picture.looks import scaled

Floats = NDArray[np.float64]


def draw_torso(figure: Figure) -> None:
    """Draw shirt, shorts and throat."""
    look, pixel, depth, focal = figure.look, figure.pixel, figure.depth, figure.focal_px
    size = look.height_m / 1.75 * look.width
    scale = focal * size / depth[JOINTS["pelvis"]]
    names = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
    corners = np.array([pixel[JOINTS[name]] for name in names])
    neck, pelvis = pixel[JOINTS["neck"]], pixel[JOINTS["pelvis"]]
    below = [corners[2:], pelvis + 0.12 * (neck - pelvis)]
    below_radii = [0.098, 0.098, 0.105]
    if look.skirt:
        below.append(0.55 * corners[2:] + 0.45 * pixel[[JOINTS["left_knee"], JOINTS["right_knee"]]])
        below_radii += [0.115, 0.115]
    # Seen from the side a chest is deeper than the distance of the shoulders.
    chest = [corners[:2] * 0.94 + neck * 0.06, corners[2:] * 0.9 + neck * 0.1, pelvis + 0.6 * (neck - pelvis)]
    for colour, points, radii in (
        (look.shorts, np.vstack(below), below_radii),
        (look.shirt, np.vstack(chest), [0.062, 0.062, 0.085, 0.085, 0.118]),
    ):
        for share, shift, bright in figure.shades:
            middle = points.mean(axis=0)
            inner = middle + (points - middle) * (0.35 + 0.65 * share) + np.array([-0.06, -0.03]) * shift * scale
            rings = [point + radius * share * scale * CIRCLE for point, radius in zip(inner, radii, strict=True)]
            hull = np.asarray(cv2.convexHull(fixed(np.vstack(rings))), np.int32)
            figure.fill(hull, scaled(colour, bright))
    throat = fixed(neck + 0.055 * scale * CIRCLE * (1, 0.8))
    figure.fill(throat, scaled(look.skin, 0.8))
    if look.number and depth[JOINTS["nose"]] > depth[JOINTS["head"]] and scale > 40:
        _number(figure, pelvis + 0.68 * (neck - pelvis), scale)


def _number(figure: Figure, at: Floats, scale: float) -> None:
    """Write the number on the back."""
    text = figure.look.number
    tone = (235, 235, 235, 255) if sum(figure.look.shirt) < 330 else (30, 30, 30, 255)
    size, thick = scale * 0.0055, max(1, round(scale * 0.018))
    (wide, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, size, 1)
    place = (round(at[0] - wide / 2), round(at[1] + tall / 2))
    cv2.putText(figure.canvas, text, place, cv2.FONT_HERSHEY_DUPLEX, size, tone, thick, cv2.LINE_AA)


def draw_head(figure: Figure) -> None:
    """Draw head, hair and face."""
    look, pixel, depth, focal = figure.look, figure.pixel, figure.depth, figure.focal_px
    scale = focal * look.height_m / 1.75 / depth[JOINTS["head"]]
    head, neck, nose = pixel[JOINTS["head"]], pixel[JOINTS["neck"]], pixel[JOINTS["nose"]]
    up = head - neck
    up = up / max(float(np.hypot(up[0], up[1])), 1e-6)
    right = np.array([-up[1], up[0]])

    def oval(centre: Floats, across: float, along: float) -> Outline:
        points = centre + scale * (CIRCLE[:, :1] * across * right + CIRCLE[:, 1:] * along * up)
        return fixed(points)

    # 1 with the face to the camera, -1 from behind.
    facing = float(np.clip((depth[JOINTS["head"]] - depth[JOINTS["nose"]]) / 0.1, -1, 1))
    aside = (nose - head) / max(scale * 0.105, 1e-6)
    sideways = float(np.clip(aside @ right, -1, 1))
    if look.long_hair:
        # From the front it is behind the neck.
        length = 0.13 if facing < 0 else 0.10
        hair = head - (length - 0.06) * scale * up - 0.03 * scale * sideways * right
        figure.fill(oval(hair, 0.092, length), look.hair)
    stem = np.vstack([neck + 0.05 * scale * right, neck - 0.05 * scale * right, head - 0.045 * scale * right,
                      head + 0.045 * scale * right])  # fmt: skip
    figure.fill(fixed(stem), scaled(look.skin, 0.72))
    figure.fill(oval(head, 0.084, 0.115), scaled(look.skin, 0.85))
    figure.fill(oval(head + 0.012 * scale * up - 0.006 * scale * right, 0.066, 0.092), look.skin)
    if facing < -0.25:
        figure.fill(oval(head + 0.018 * scale * up, 0.088, 0.105), look.hair)
    else:
        back = 0.045 * (1 - max(facing, 0.0))
        hair = head + (0.072 * up - back * sideways * right) * scale
        figure.fill(oval(hair, 0.086, 0.058), look.hair)
        if abs(sideways) > 0.4:
            behind = head + (0.03 * up - 0.05 * sideways * right) * scale
            figure.fill(oval(behind, 0.052, 0.085), look.hair)
    _face(figure, oval, facing, up, sideways * right)


def _face(
    figure: Figure, oval: Callable[[Floats, float, float], Outline], facing: float, up: Floats, sideways: Floats
) -> None:
    """Draw what is to be seen of ears, eyes, nose and mouth."""
    look, pixel, depth = figure.look, figure.pixel, figure.depth
    scale = figure.focal_px * look.height_m / 1.75 / depth[JOINTS["head"]]
    nose = pixel[JOINTS["nose"]]
    for name in ("left", "right"):
        number = JOINTS[f"{name}_ear"]
        if depth[number] < depth[JOINTS["head"]] + 0.02:
            figure.fill(oval(pixel[number], 0.016, 0.027), scaled(look.skin, 0.75))
        number = JOINTS[f"{name}_eye"]
        if facing > -0.1 and depth[number] < depth[JOINTS["head"]] - 0.01:
            figure.fill(oval(pixel[number], 0.017, 0.009), (225, 225, 225))
            figure.fill(oval(pixel[number], 0.009, 0.010), (30, 25, 25))
    if facing > -0.1:
        figure.fill(oval(nose, 0.014, 0.02), scaled(look.skin, 0.8))
        mouth = nose - 0.04 * scale * up - 0.01 * scale * sideways
        figure.fill(oval(mouth, 0.024, 0.006), (70, 70, 140))


def draw_racket(figure: Figure) -> None:
    """Draw shaft and head; a racket seen from the edge is thin."""
    look, pixel, joints = figure.look, figure.pixel, figure.joints_m
    assert look.racket is not None
    centre = JOINTS["racket_head"]
    hands = (JOINTS["left_hand"], JOINTS["right_hand"])
    hand = min(hands, key=lambda one: float(np.linalg.norm(joints[one] - joints[centre])))
    scale = figure.focal_px / figure.depth[centre]
    long, wide = RACKET_HEAD_M
    axis = pixel[centre] - pixel[hand]
    axis = axis / max(float(np.linalg.norm(joints[centre] - joints[hand])), 1e-6)
    across = (pixel[JOINTS["racket_side"]] - pixel[centre]) / 0.1
    outline = fixed(pixel[centre] + CIRCLE[:, :1] * axis * long + CIRCLE[:, 1:] * across * wide)
    strings = np.zeros_like(figure.canvas)
    cv2.fillPoly(strings, [outline], (70, 70, 70, 70), cv2.LINE_AA, SHIFT)
    free = np.asarray(figure.canvas[..., 3] < 128, np.uint8)
    cv2.add(figure.canvas, strings, dst=figure.canvas, mask=free)
    frame = max(1, round(0.011 * scale))
    cv2.polylines(figure.canvas, [outline], True, (*look.racket, 255), frame, cv2.LINE_AA, SHIFT)
    throat, grip = fixed(pixel[centre] - axis * long).tolist(), fixed(pixel[hand]).tolist()
    shaft = max(1, round(0.012 * scale))
    cv2.line(figure.canvas, grip, throat, (50, 50, 55, 255), shaft, cv2.LINE_AA, SHIFT)
