"""Initialisation of Gaussians: at triangulated points, and where the model does not cover the frame yet."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_FEATURES = 800
_RATIO = 0.8  # Lowe 2004, section 7.1
_MIN_MATCHES = 8
_ERROR_PX = 3.0  # at a width of 320 px; proportional for others
_MIN_PARALLAX_DEG = 1.0
_NEAR_M, _FAR_M = 0.03, 3.0


@dataclass
class FeatureView:
    """Features of a frame, kept to match later frames with it."""

    camera_from_world: Floats
    keypoints_px: Floats
    descriptors: NDArray[np.float32] | None


@dataclass
class TriangulatedPoints:
    """Points in the world [N, 3] m, and their pixels in the newest frame [N, 2], at the camera's full size."""

    world_m: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    pixels: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    depths_m: Floats = field(default_factory=lambda: np.zeros(0))


class Triangulation:
    """Triangulation of points by matching a frame with earlier ones of known pose."""

    def __init__(self, matrix: Floats) -> None:
        """Set the camera's matrix [3, 3]."""
        self._matrix = matrix
        self._sift = cv2.SIFT.create(_FEATURES)
        self._matcher = cv2.BFMatcher()
        self._error_px = _ERROR_PX * max(1.0, 2 * matrix[0, 2] / 320)

    def view(self, grey: NDArray[np.uint8], camera_from_world: Floats) -> FeatureView:
        """Extract the features of a frame."""
        keypoints, descriptors = self._sift.detectAndCompute(grey, None)
        # OpenCV has the origin at the centre of the first pixel, we at its corner
        pixels = np.array([point.pt for point in keypoints], np.float64).reshape(-1, 2) + 0.5
        return FeatureView(
            camera_from_world, pixels, None if descriptors is None else np.asarray(descriptors, np.float32)
        )

    def points(self, newest: FeatureView, before: list[FeatureView]) -> TriangulatedPoints:
        """Return the points that the newest view shares with others."""
        found = [self._pair(newest, other) for other in before]
        found = [points for points in found if len(points.depths_m)]
        if not found:
            return TriangulatedPoints()
        return TriangulatedPoints(
            np.concatenate([points.world_m for points in found]),
            np.concatenate([points.pixels for points in found]),
            np.concatenate([points.depths_m for points in found]),
        )

    def _pair(self, newest: FeatureView, other: FeatureView) -> TriangulatedPoints:
        if newest.descriptors is None or other.descriptors is None or len(other.descriptors) < 2:
            return TriangulatedPoints()
        pairs = self._matcher.knnMatch(newest.descriptors, other.descriptors, k=2)
        good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
        if len(good) < _MIN_MATCHES:
            return TriangulatedPoints()
        here = newest.keypoints_px[[match.queryIdx for match in good]]
        there = other.keypoints_px[[match.trainIdx for match in good]]
        poses = newest.camera_from_world[:3], other.camera_from_world[:3]
        homogeneous = cv2.triangulatePoints(self._matrix @ poses[0], self._matrix @ poses[1], here.T, there.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            world = (homogeneous[:3] / homogeneous[3]).T
        error_here, depth_here, ray_here = self._seen(world, poses[0], here)
        error_there, depth_there, ray_there = self._seen(world, poses[1], there)
        with np.errstate(invalid="ignore"):
            parallax_deg = np.rad2deg(np.arccos(np.clip((ray_here * ray_there).sum(1), -1, 1)))
            valid = (error_here < self._error_px) & (error_there < self._error_px) & (parallax_deg > _MIN_PARALLAX_DEG)
            valid &= (depth_here > _NEAR_M) & (depth_here < _FAR_M) & (depth_there > _NEAR_M)
        return TriangulatedPoints(world[valid], here[valid], depth_here[valid])

    def _seen(self, world: Floats, pose: Floats, pixels: Floats) -> tuple[Floats, Floats, Floats]:
        """Return reprojection errors in px, depths in m and unit directions from the camera, in the world."""
        with np.errstate(divide="ignore", invalid="ignore"):
            camera = world @ pose[:, :3].T + pose[:, 3]
            image = camera @ self._matrix.T
            error = np.linalg.norm(image[:, :2] / image[:, 2:] - pixels, axis=1)
            ray = world + pose[:, :3].T @ pose[:, 3]
            ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        return error, camera[:, 2], ray


def fill_depths(
    pixels: Floats, points: TriangulatedPoints, camera_from_world: Floats, matrix: Floats, ground_z_m: float
) -> Floats:
    """Estimate the depth [N] m at pixels [N, 2] that the model does not cover.

    If at least three points lie within a sixth of the frame's width, it is the median of the nearest three; otherwise
    the intersection of the ray with the plane of the table, or the median depth if there is none.
    """
    rays = np.concatenate([(pixels - matrix[:2, 2]) / np.diag(matrix)[:2], np.ones((len(pixels), 1))], axis=1)
    downward = (rays @ camera_from_world[:3, :3])[:, 2]
    eye_z = -(camera_from_world[:3, :3].T @ camera_from_world[:3, 3])[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        depths = (ground_z_m - eye_z) / downward
    fallback_m = float(np.median(points.depths_m)) if len(points.depths_m) else 0.3
    depths = np.where((depths > _NEAR_M) & (depths < _FAR_M), depths, fallback_m)
    if len(points.depths_m) >= 3:
        distance = np.linalg.norm(pixels[:, None] - points.pixels[None], axis=2)
        nearest = np.argpartition(distance, 2, axis=1)[:, :3]
        close = np.take_along_axis(distance, nearest, axis=1).max(axis=1) < 2 * matrix[0, 2] / 6
        depths = np.where(close, np.median(points.depths_m[nearest], axis=1), depths)
    return np.asarray(depths)
