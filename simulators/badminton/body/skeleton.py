"""Joints of a person, and the inverse kinematics of its limbs.

The court's axes (x right, y towards the camera, z up) are left-handed: the left hand of somebody who looks along
(hx, hy) is at (hy, -hx).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import KEYPOINTS

Floats = NDArray[np.float64]

#: Joints that are drawn only, after the keypoints.
OTHER_JOINTS: Final = (
    "neck",
    "pelvis",
    "head",
    "left_toe",
    "right_toe",
    "left_hand",
    "right_hand",
    "racket_head",
    #: 0.1 m from the racket head's centre, across it.
    "racket_side",
)
JOINTS: Final = {name: number for number, name in enumerate((*KEYPOINTS, *OTHER_JOINTS))}

#: Shares of the body's height (Drillis and Contini, 1966).
HIP_HEIGHT: Final = 0.52
THIGH: Final = 0.245
SHIN: Final = 0.246
ANKLE_HEIGHT: Final = 0.045
TRUNK: Final = 0.30
UPPER_ARM: Final = 0.175
FOREARM: Final = 0.155
HAND: Final = 0.05
HALF_SHOULDERS: Final = 0.108
HALF_HIPS: Final = 0.058
#: From the wrist to the centre of the racket's head.
RACKET_M: Final = 0.58
RACKET_HEAD_M: Final = (0.13, 0.10)


@dataclass(frozen=True, eq=False)
class Trunk:
    """A person's trunk over time. Shapes: heading, left, spine, neck, pelvis [T, 3], the other arrays [T]."""

    times_s: Floats
    heading: Floats
    left: Floats
    spine: Floats
    neck: Floats
    pelvis: Floats
    #: 1 ready to play, 0 at rest.
    ready: Floats
    stoop: Floats
    speed_mps: Floats
    height_m: float
    right_handed: bool

    @property
    def racket_side(self) -> Floats:
        """Unit vectors towards the side of the hand that holds the racket."""
        return -self.left if self.right_handed else self.left


def left_of(heading: Floats) -> Floats:
    """Return the unit vectors [..., 3] to the left of headings [..., 3]."""
    return np.stack([heading[..., 1], -heading[..., 0], np.zeros(heading.shape[:-1])], -1)


def unit(vectors: Floats) -> Floats:
    """Return vectors [..., 3] with length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def bent_limb(root: Floats, end: Floats, upper_m: float, lower_m: float, towards: Floats) -> tuple[Floats, Floats]:
    """Return the middle joint and the end [..., 3] of a limb of two bones that reaches for ``end``.

    The middle joint bends ``towards``; an end out of reach is brought near.
    """
    way = end - root
    distance = np.linalg.norm(way, axis=-1, keepdims=True)
    reach = np.clip(distance, abs(upper_m - lower_m) + 0.02, (upper_m + lower_m) * 0.995)
    direction = way / np.maximum(distance, 1e-9)
    end = root + direction * reach
    along = (upper_m**2 - lower_m**2 + reach**2) / (2 * reach)
    aside = np.sqrt(np.maximum(upper_m**2 - along**2, 0.0))
    across = towards - np.sum(towards * direction, axis=-1, keepdims=True) * direction
    return root + along * direction + aside * unit(across), end


def smooth_step(share: Floats) -> Floats:
    """Return 0 to 1 with zero slope at both ends."""
    clipped = np.clip(share, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3 - 2 * clipped))
