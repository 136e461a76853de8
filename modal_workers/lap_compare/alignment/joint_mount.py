"""The turn and zoom of clip B's camera, fitted together with how far each pair of frames is from the same place.

Frames that are matched a little too late show everything larger, as a zoom does. A warp fitted to such frames alone
takes this for zoom, the alignment through that warp keeps the shift, and the whole lap is off to one side. Here the
motion of A's own picture tells the two apart: near things move when the place differs, far things do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.alignment.camera_mount import (
    CENTRE_PX,
    FOCAL_LENGTHS_A,
    Matrix,
    Points,
    intrinsics,
    match_features,
)
from modal_workers.road_video.descriptors import THUMBNAIL_PX, Picture

#: Motion of A's picture is measured over this time.
MOTION_INTERVAL_S: Final = 0.1
MIN_MATCHES: Final = 200
MIN_MATCHES_PER_PLACE: Final = 8
#: A tracked point that does not return to within this distance is dropped.
MAX_RETURN_PX: Final = 0.7
ITERATIONS: Final = 12
#: Matches this far from the fit have a quarter of the weight; larger in the first iterations.
RESIDUAL_PX: Final = 1.2
#: Expected size of a place's shift in seconds, and of the camera's move sideways and up in seconds of driving.
_PRIOR: Final = np.diag(0.5 / np.array([0.3, 0.1, 0.1]) ** 2)


@dataclass(frozen=True)
class PlaceMatches:
    """Matched points of all places. Shapes: place [K]; points_a, points_b, motion (of A, px per second) [K, 2]."""

    place: NDArray[np.int64]
    points_a: Matrix
    points_b: Matrix
    motion: Matrix

    @property
    def nearness(self) -> Matrix:
        """Return the inverse distance [K] of the points, in drives of one second: motion away from the centre."""
        from_centre = self.points_a - CENTRE_PX
        along = np.sum(self.motion * from_centre, axis=1)
        return np.asarray(np.maximum(along / np.maximum(np.sum(from_centre**2, axis=1), 400.0), 0.0))


def match_places(
    pictures_a: Sequence[Picture],
    later_a: Sequence[Picture],
    later_s: Sequence[float],
    pictures_b: Sequence[Picture],
) -> PlaceMatches | None:
    """Match frames of the same places and measure A's motion at the matches; None if there are too few.

    ``later_a`` are A's frames ``later_s`` seconds after ``pictures_a``.
    """
    found = []
    for number, (a, later, interval_s, b) in enumerate(zip(pictures_a, later_a, later_s, pictures_b, strict=False)):
        points_a, points_b = match_features(a, b)
        if len(points_a) < MIN_MATCHES_PER_PLACE or interval_s <= 0:
            continue
        ahead, tracked = _tracked(a, later, points_a)
        back, returned = _tracked(later, a, ahead)
        kept = tracked & returned & (np.linalg.norm(back - points_a, axis=1) < MAX_RETURN_PX)
        motion = (ahead - points_a)[kept] / interval_s
        found.append((np.full(int(kept.sum()), number), points_a[kept], points_b[kept], motion))
    if sum(len(part[0]) for part in found) < MIN_MATCHES:
        return None
    place = np.concatenate([part[0] for part in found])
    first, second, motion = (np.concatenate([part[at] for part in found]).astype(np.float64) for at in (1, 2, 3))
    return PlaceMatches(place, first, second, motion)


def _tracked(first: Picture, second: Picture, points: Points) -> tuple[Points, NDArray[np.bool_]]:
    start = points.reshape(-1, 1, 2).astype(np.float32)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        first, second, start, np.empty_like(start), winSize=(15, 15), maxLevel=3
    )
    return np.asarray(moved, np.float32).reshape(-1, 2), np.asarray(status).ravel() > 0


def fit_mount(matches: PlaceMatches) -> Matrix:
    """Return the homography [3, 3] of B's turned and zoomed camera that explains the matches best.

    Unknown are three angles and the zoom, and for each place by how much B's frame is late and how far its camera is
    to the side and above. Solved by Gauss-Newton with robust weights, for each of ``FOCAL_LENGTHS_A``.
    """
    fits = [_Fit(matches, focal * THUMBNAIL_PX[0]).solved() for focal in FOCAL_LENGTHS_A]
    return min(fits, key=lambda fit: fit[1])[0]


class _Fit:
    """The fit for one focal length of A."""

    def __init__(self, matches: PlaceMatches, focal_px: float) -> None:
        self._focal_px = focal_px
        self._points_b = matches.points_b
        known, self._place = np.unique(matches.place, return_inverse=True)
        self._count = len(known)
        centred = (matches.points_a - CENTRE_PX) / focal_px
        self._rays = np.concatenate([centred, np.ones((len(centred), 1))], axis=1)
        # what a second of delay and a move sideways or up do to a point of A's picture, px
        self._moves = np.zeros((len(centred), 2, 3))
        self._moves[:, :, 0] = matches.motion
        self._moves[:, 0, 1] = self._moves[:, 1, 2] = matches.nearness * focal_px

    def solved(self) -> tuple[Matrix, float]:
        """Return the homography and its loss: the mean error in pixels, each at most 3."""
        mount, local = np.zeros(4), np.zeros((self._count, 3))
        for iteration in range(ITERATIONS):
            error, by_mount, by_local = self._linearised(mount, local)
            size = np.linalg.norm(error, axis=1)
            scale = max(1.0, 1.5 * float(np.median(size))) if iteration < 4 else RESIDUAL_PX
            weight = 1 / (1 + (size / scale) ** 2) ** 2
            step_mount, step_local = self._step(error, by_mount, by_local, weight, local)
            mount, local = mount - step_mount, local - step_local
        loss = float(np.mean(np.minimum(np.linalg.norm(self._errors(mount, self._moved(local)), axis=1), 3.0)))
        zoomed = intrinsics(self._focal_px * np.exp(mount[3]))
        warp = zoomed @ cv2.Rodrigues(mount[:3])[0] @ np.linalg.inv(intrinsics(self._focal_px))
        return np.asarray(warp / warp[2, 2]), loss

    def _moved(self, local: Matrix) -> Matrix:
        rays = self._rays.copy()
        rays[:, :2] += np.einsum("kij,kj->ki", self._moves, local[self._place]) / self._focal_px
        return rays

    def _errors(self, mount: Matrix, rays: Matrix) -> Matrix:
        turned = rays @ np.asarray(cv2.Rodrigues(mount[:3])[0]).T
        projected = turned[:, :2] / turned[:, 2:] * (self._focal_px * np.exp(mount[3])) + CENTRE_PX
        return np.asarray(projected - self._points_b)

    def _linearised(self, mount: Matrix, local: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Return the errors [K, 2] and their derivatives by the mount [K, 2, 4] and by the place [K, 2, 3]."""
        rays = self._moved(local)
        error = self._errors(mount, rays)
        by_mount = np.stack([(self._errors(mount + step, rays) - error) / 1e-6 for step in 1e-6 * np.eye(4)], axis=-1)
        small = 1e-3 / self._focal_px
        by_pixel = np.stack(
            [(self._errors(mount, rays + step) - error) / 1e-3 for step in small * np.eye(3)[:2]], axis=-1
        )
        return error, by_mount, by_pixel @ self._moves

    def _step(
        self, error: Matrix, by_mount: Matrix, by_local: Matrix, weight: Matrix, local: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Return the steps of mount [4] and places [P, 3]: the places are eliminated first (Schur complement)."""
        common = np.einsum("k,kia,kib->ab", weight, by_mount, by_mount) + 1e-6 * np.eye(4)
        common_side = np.einsum("k,kia,ki->a", weight, by_mount, error)
        own = self._summed(np.einsum("k,kia,kib->kab", weight, by_local, by_local)) + _PRIOR
        mixed = self._summed(np.einsum("k,kia,kib->kab", weight, by_mount, by_local))
        own_side = self._summed(np.einsum("k,kia,ki->ka", weight, by_local, error)) + local @ _PRIOR
        solved = np.linalg.solve(own, np.concatenate([mixed.transpose(0, 2, 1), own_side[:, :, None]], axis=2))
        reduced = common - np.einsum("pab,pbc->ac", mixed, solved[:, :, :4])
        side = common_side - np.einsum("pab,pb->a", mixed, solved[:, :, 4])
        step = np.linalg.solve(reduced, side)
        return step, solved[:, :, 4] - solved[:, :, :4] @ step

    def _summed(self, values: Matrix) -> Matrix:
        """Sum values [K, ...] over each place: [P, ...]."""
        out = np.zeros((self._count, *values.shape[1:]))
        np.add.at(out, self._place, values)
        return out
