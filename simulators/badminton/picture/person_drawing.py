"""Drawing of a person from joints: limbs as shaded tapered capsules, head with hair, clothes, shoes, a racket."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import KEYPOINTS
from simulators.badminton.body.skeleton import JOINTS
from simulators.badminton.picture.body_parts import draw_head, draw_racket, draw_torso
from simulators.badminton.picture.figure import Figure, Outline, fixed
from simulators.badminton.picture.looks import Look, scaled
from simulators.badminton.picture.match_camera import CameraPose

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

_ARC: Final = np.linspace(-math.pi / 2, math.pi / 2, 8)
_HALF_CIRCLE: Final = np.column_stack([np.cos(_ARC), np.sin(_ARC)])

#: Limbs: from, to, shares of the way at which it begins and ends, radii in metres at 1.75 m, what it wears, its part.
_LIMBS: Final = tuple(
    (f"{side}_{first}", f"{side}_{second}", begin, end, first_radius, second_radius, wears, f"{side}_{part}")
    for side in ("left", "right")
    for first, second, begin, end, first_radius, second_radius, wears, part in (
        ("hip", "knee", 0.0, 1.0, 0.082, 0.058, "skin", "leg"),
        ("hip", "knee", 0.0, 0.6, 0.098, 0.092, "shorts", "leg"),
        ("knee", "ankle", 0.0, 0.45, 0.057, 0.056, "skin", "leg"),
        ("knee", "ankle", 0.4, 1.0, 0.056, 0.036, "skin", "leg"),
        ("knee", "ankle", 0.72, 1.0, 0.043, 0.040, "socks", "leg"),
        ("ankle", "toe", 0.0, 0.95, 0.050, 0.038, "shoes", "leg"),
        ("shoulder", "elbow", 0.0, 1.0, 0.052, 0.041, "skin", "arm"),
        ("shoulder", "elbow", 0.0, 0.62, 0.066, 0.060, "sleeves", "arm"),
        ("elbow", "wrist", 0.0, 1.0, 0.042, 0.028, "skin", "arm"),
        ("wrist", "hand", 0.3, 1.0, 0.034, 0.038, "skin", "arm"),
    )
)
_FROM: Final = np.array([JOINTS[limb[0]] for limb in _LIMBS])
_TO: Final = np.array([JOINTS[limb[1]] for limb in _LIMBS])
_BEGIN, _END, _RADIUS_A, _RADIUS_B = np.array([limb[2:6] for limb in _LIMBS]).T
_PART_LIMBS: Final = {
    part: [number for number, limb in enumerate(_LIMBS) if limb[7] == part]
    for part in ("left_leg", "right_leg", "left_arm", "right_arm")
}
_PART_JOINTS: Final = {
    part: [JOINTS[name] for name in names]
    for part, names in {
        "left_leg": ("left_knee",),
        "right_leg": ("right_knee",),
        "left_arm": ("left_elbow", "left_wrist"),
        "right_arm": ("right_elbow", "right_wrist"),
        "racket": ("racket_head",),
        "head": ("head",),
        "torso": ("neck", "pelvis"),
    }.items()
}
#: How far flesh and clothes reach beyond a joint, metres at 1.75 m; for boxes around a person.
_REACH: Final = {
    "left_shoulder": 0.066,
    "right_shoulder": 0.066,
    "left_hip": 0.1,
    "right_hip": 0.1,
    "left_knee": 0.058,
    "right_knee": 0.058,
    "left_ankle": 0.05,
    "right_ankle": 0.05,
    "left_elbow": 0.045,
    "right_elbow": 0.045,
    "head": 0.115,
    "left_toe": 0.04,
    "right_toe": 0.04,
    "left_hand": 0.038,
    "right_hand": 0.038,
}
BOX_JOINTS: Final = np.array([JOINTS[name] for name in _REACH])
BOX_REACH_M: Final = np.array(list(_REACH.values()))


@dataclass(frozen=True)
class PersonSprite:
    """A drawn person: colour times alpha and alpha [h, w, 4], and where its top left pixel goes."""

    picture: Picture
    left_px: int
    top_px: int


def draw_person(pose: CameraPose, moments: list[Floats], look: Look) -> PersonSprite | None:
    """Draw a person whose joints [J, 3] are given at one or more moments of the exposure; None out of view."""
    placed = [pose.project(joints) for joints in moments]
    size = look.height_m / 1.75
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for pixel, depth in placed:
        if depth.min() < 0.4:
            return None
        reach = 0.2 * size * pose.focal_px / depth.min() + 2
        drawn = pixel[: JOINTS["racket_side"]] if look.racket else pixel[: JOINTS["racket_head"]]
        low, high = np.minimum(low, drawn.min(axis=0) - reach), np.maximum(high, drawn.max(axis=0) + reach)
    left, top = max(math.floor(low[0]), 0), max(math.floor(low[1]), 0)
    right, bottom = min(math.ceil(high[0]), pose.width_px), min(math.ceil(high[1]), pose.height_px)
    if right - left < 1 or bottom - top < 1:
        return None
    # Small persons are drawn at a higher resolution: features smaller than a pixel count by their area.
    fine = 2 if high[1] - low[1] < 500 else 1
    total: NDArray[np.uint16] | None = None
    for (pixel, depth), joints in zip(placed, moments, strict=True):
        canvas = np.zeros(((bottom - top) * fine, (right - left) * fine, 4), np.uint8)
        _paint(Figure(canvas, joints, (pixel - (left, top) + 0.5) * fine - 0.5, depth, pose.focal_px * fine, look))
        if len(moments) > 1:
            total = canvas.astype(np.uint16) if total is None else total + canvas
    if total is not None:
        canvas = (total // len(moments)).astype(np.uint8)
    if fine > 1:
        canvas = np.asarray(cv2.resize(canvas, (right - left, bottom - top), interpolation=cv2.INTER_AREA), np.uint8)
    return PersonSprite(canvas, left, top)


def _paint(figure: Figure) -> None:
    """Draw all parts from far to near."""
    look = figure.look
    outlines = _limb_outlines(figure)
    part_depth = {name: float(np.mean(figure.depth[joints])) for name, joints in _PART_JOINTS.items()}
    part_depth["head"] -= 0.02
    part_depth["torso"] -= 0.05
    for part in sorted(part_depth, key=lambda part: -part_depth[part]):
        if part in _PART_LIMBS:
            for number in _PART_LIMBS[part]:
                wears = _LIMBS[number][6]
                if look.trousers and part.endswith("leg") and wears != "shoes":
                    wears = "shorts"
                elif look.skirt and wears == "shorts":
                    continue
                for outline, (_, _, bright) in zip(outlines, figure.shades, strict=True):
                    figure.fill(outline[number], scaled(look.colour(wears), bright))
        elif part == "torso":
            draw_torso(figure)
        elif part == "head":
            draw_head(figure)
        elif look.racket is not None:
            draw_racket(figure)


def _limb_outlines(figure: Figure) -> list[Outline]:
    """Return for each shade the outlines [limbs, 16, 2] of the capsules, in fixed point."""
    pixel, depth, focal = figure.pixel, figure.depth, figure.focal_px
    size = figure.look.height_m / 1.75 * figure.look.width
    a, b = pixel[_FROM], pixel[_TO]
    start, end = a + _BEGIN[:, None] * (b - a), a + _END[:, None] * (b - a)
    first = focal * size * _RADIUS_A / depth[_FROM]
    second = focal * size * _RADIUS_B / depth[_TO]
    way = end - start
    length = np.maximum(np.hypot(way[:, 0], way[:, 1]), 1e-6)
    along = way / length[:, None]
    across = np.column_stack([-along[:, 1], along[:, 0]])
    # Light comes from above, a little from the left.
    lit = across * np.sign(across @ np.array([-0.4, -1.0]))[:, None]
    outlines = []
    for share, shift, _ in figure.shades:
        ends = []
        for centre, radius, sign in ((start, first, -1.0), (end, second, 1.0)):
            moved = centre + (shift * radius)[:, None] * lit
            arc = sign * _HALF_CIRCLE
            cap = (along[:, None] * arc[None, :, :1] + across[:, None] * arc[None, :, 1:]) * (share * radius)[
                :, None, None
            ]
            ends.append(moved[:, None] + cap)
        outlines.append(fixed(np.concatenate(ends, axis=1)))
    return outlines


def person_boxes(pixel: Floats, depth: Floats, focal_px: float, height_m: float) -> Floats:
    """Return boxes [..., 4] (x0, y0, x1, y1) around persons, without rackets, from joints' pixels and depths."""
    reach = BOX_REACH_M * height_m / 1.75 * focal_px / np.maximum(depth[..., BOX_JOINTS], 0.05)
    points = pixel[..., BOX_JOINTS, :]
    low, high = (points - reach[..., None]).min(axis=-2), (points + reach[..., None]).max(axis=-2)
    behind = np.asarray((depth[..., : len(KEYPOINTS)] < 0.3).any(axis=-1))
    return np.where(np.expand_dims(behind, -1), np.nan, np.concatenate([low, high], axis=-1))


def lay_over(frame: Picture, sprite: PersonSprite) -> None:
    """Draw a sprite onto a frame [H, W, 3]."""
    height, width = sprite.picture.shape[:2]
    region = frame[sprite.top_px : sprite.top_px + height, sprite.left_px : sprite.left_px + width]
    clear = cv2.cvtColor(255 - sprite.picture[..., 3], cv2.COLOR_GRAY2BGR)
    faded = cv2.multiply(region, clear, scale=1 / 255)
    cv2.add(faded, np.ascontiguousarray(sprite.picture[..., :3]), dst=region)
