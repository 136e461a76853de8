"""Solid shapes of a table top: where rays meet them, and which texel of which of their faces that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Singles = NDArray[np.float32]
Flags = NDArray[np.bool_]

FARTHEST_M = np.float32(1e4)  # a ray that meets nothing ends here


class Shape(Protocol):
    """A surface made of faces; each face has a texture whose coordinates go from 0 to 1, right and down."""

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Give how many of their lengths rays [..., 3] from ``origin`` [..., 3] go till they meet it, or FARTHEST_M."""
        ...

    def faces(self, points: Singles) -> list[tuple[int, Flags, Singles, Singles]]:
        """Give, of points [..., 3] on it, each face's number, which are on it, and texture coordinates u and v."""
        ...

    def face_points(self, face: int, u: Singles, v: Singles) -> tuple[Singles, Singles]:
        """Give points and outward normals [..., 3] at texture coordinates of a face: the reverse of ``faces``."""
        ...

    @property
    def face_count(self) -> int:
        """How many faces it has."""
        ...

    def corners(self) -> Singles:
        """Give the corners [8, 3] of a box round it."""
        ...


@dataclass(frozen=True)
class Sheet:
    """A flat rectangle that lies on the table: from ``low`` to ``high`` (x, y), seen from above only."""

    low: tuple[float, float]
    high: tuple[float, float]
    height_m: float = 0.0
    face_count: int = 1

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the plane, within the rectangle."""
        down = rays[..., 2]
        with np.errstate(divide="ignore"):
            depth = (np.float32(self.height_m) - origin[..., 2]) / down
        x, y = origin[..., 0] + depth * rays[..., 0], origin[..., 1] + depth * rays[..., 1]
        inside = (x >= self.low[0]) & (x < self.high[0]) & (y >= self.low[1]) & (y < self.high[1])
        return np.where(inside & (down < 0) & (depth > 0), depth, FARTHEST_M)

    def faces(self, points: Singles) -> list[tuple[int, Flags, Singles, Singles]]:
        """Look from above with x upwards in the texture: as the arm sees it."""
        u = (self.high[1] - points[..., 1]) / np.float32(self.high[1] - self.low[1])
        v = (self.high[0] - points[..., 0]) / np.float32(self.high[0] - self.low[0])
        return [(0, np.ones(u.shape, bool), u, v)]

    def face_points(self, face: int, u: Singles, v: Singles) -> tuple[Singles, Singles]:
        """Give places on the sheet; normals point up."""
        assert face == 0
        x = np.float32(self.high[0]) - v * np.float32(self.high[0] - self.low[0])
        y = np.float32(self.high[1]) - u * np.float32(self.high[1] - self.low[1])
        points = np.stack([x, y, np.full_like(x, self.height_m)], -1)
        return points, np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape)

    def corners(self) -> Singles:
        """Give the rectangle's corners, twice."""
        (x0, y0), (x1, y1) = self.low, self.high
        return np.array([[x, y, self.height_m] for x in (x0, x1) for y in (y0, y1)] * 2, np.float32)


@dataclass(frozen=True)
class Block:
    """A box that stands on the table, turned about the vertical. Faces: +x, -x, +y, -y, +z, -z of its own frame."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw_rad: float = 0.0
    face_count: int = 6

    def _turn(self) -> Singles:
        cosine, sine = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the three slabs."""
        start = (origin - np.array(self.centre, np.float32)) @ self._turn()
        along = rays @ self._turn()
        half = np.array(self.size, np.float32) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = 1 / along
            one, two = (-half - start) * inverse, (half - start) * inverse
        enters = np.maximum(
            np.maximum(np.minimum(one[..., 0], two[..., 0]), np.minimum(one[..., 1], two[..., 1])),
            np.minimum(one[..., 2], two[..., 2]),
        )
        leaves = np.minimum(
            np.minimum(np.maximum(one[..., 0], two[..., 0]), np.maximum(one[..., 1], two[..., 1])),
            np.maximum(one[..., 2], two[..., 2]),
        )
        return np.where((enters <= leaves) & (enters > 0), enters, FARTHEST_M)

    def faces(self, points: Singles) -> list[tuple[int, Flags, Singles, Singles]]:
        """Choose the face whose plane is nearest; side faces are upright, the top is seen with +y upwards."""
        x, y, z = np.moveaxis(
            (points - np.array(self.centre, np.float32)) @ self._turn() / np.array(self.size, np.float32), -1, 0
        )
        apart = np.abs(np.stack([x - 0.5, x + 0.5, y - 0.5, y + 0.5, z - 0.5, z + 0.5]))
        nearest = np.argmin(apart, axis=0)
        right = (y, -y, -x, x, x, x)
        down = (-z, -z, -z, -z, -y, y)
        present = (face for face in range(6) if np.any(nearest == face))
        return [(face, nearest == face, right[face] + 0.5, down[face] + 0.5) for face in present]

    def face_points(self, face: int, u: Singles, v: Singles) -> tuple[Singles, Singles]:
        """Give points and normals of a face."""
        r, d, one = u - 0.5, v - 0.5, np.full_like(u, 0.5)
        own = (
            np.stack([one, r, -d], -1),
            np.stack([-one, -r, -d], -1),
            np.stack([-r, one, -d], -1),
            np.stack([r, -one, -d], -1),
            np.stack([r, -d, one], -1),
            np.stack([r, d, -one], -1),
        )[face]
        normal = np.zeros(3, np.float32)
        normal[face // 2] = 1 - 2 * (face % 2)
        points = own * np.array(self.size, np.float32) @ self._turn().T + np.array(self.centre, np.float32)
        return points.astype(np.float32), np.broadcast_to(self._turn() @ normal, points.shape)

    def corners(self) -> Singles:
        """Give the corners."""
        signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)], np.float32)
        return np.asarray(signs * np.array(self.size, np.float32) @ self._turn().T + np.array(self.centre, np.float32))


@dataclass(frozen=True)
class Tin:
    """An upright cylinder on the table. Faces: its side (u once round, counter-clockwise from above), its top."""

    foot: tuple[float, float]
    radius_m: float
    height_m: float
    face_count: int = 2

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the side, then the lid."""
        ox, oy = origin[..., 0] - np.float32(self.foot[0]), origin[..., 1] - np.float32(self.foot[1])
        dx, dy, dz = rays[..., 0], rays[..., 1], rays[..., 2]
        a, b, c = dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - np.float32(self.radius_m**2)
        root = b * b - a * c
        with np.errstate(divide="ignore", invalid="ignore"):
            side = (-b - np.sqrt(np.maximum(root, 0))) / a
            z = origin[..., 2] + side * dz
            lid = (np.float32(self.height_m) - origin[..., 2]) / dz
            on_lid = (ox + lid * dx) ** 2 + (oy + lid * dy) ** 2 <= self.radius_m**2
        on_side = (root > 0) & (side > 0) & (z >= 0) & (z <= self.height_m)
        return np.where(on_side, side, np.where(on_lid & (lid > 0), lid, FARTHEST_M)).astype(np.float32)

    def faces(self, points: Singles) -> list[tuple[int, Flags, Singles, Singles]]:
        """Split into side and lid."""
        x, y, z = points[..., 0] - self.foot[0], points[..., 1] - self.foot[1], points[..., 2]
        lid = z > self.height_m - 1e-4
        u = np.arctan2(y, x) / np.float32(2 * np.pi) + 0.5
        across, down = x / np.float32(2 * self.radius_m) + 0.5, 0.5 - y / np.float32(2 * self.radius_m)
        return [(0, ~lid, u, 1 - z / np.float32(self.height_m)), (1, lid, across, down)]

    def face_points(self, face: int, u: Singles, v: Singles) -> tuple[Singles, Singles]:
        """Give points and normals of the side or the lid (its corners lie outside the disc)."""
        if face == 1:
            x, y = (u - 0.5) * 2 * self.radius_m, (0.5 - v) * 2 * self.radius_m
            points = np.stack([x + self.foot[0], y + self.foot[1], np.full_like(x, self.height_m)], -1)
            return points.astype(np.float32), np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape)
        turn = (u - 0.5) * 2 * np.pi
        normal = np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], -1)
        points = normal * self.radius_m + np.array([*self.foot, 0])
        points[..., 2] = (1 - v) * self.height_m
        return points.astype(np.float32), normal.astype(np.float32)

    def corners(self) -> Singles:
        """Give the corners of the box round it."""
        r, (x, y) = self.radius_m, self.foot
        return np.array([[x + a, y + b, z] for a in (-r, r) for b in (-r, r) for z in (0, self.height_m)], np.float32)


@dataclass(frozen=True)
class Ball:
    """A ball on the table; its poles are tilted. One face: u once round the poles' axis, v from pole to pole."""

    centre: tuple[float, float, float]
    radius_m: float
    tilt_rad: float = 0.6
    face_count: int = 1

    def _tilt(self) -> Singles:
        cosine, sine = np.cos(self.tilt_rad), np.sin(self.tilt_rad)
        return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], np.float32)

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the near side."""
        start = origin - np.array(self.centre, np.float32)
        a = np.einsum("...i,...i", rays, rays)
        b = np.einsum("...i,...i", rays, start)
        root = b * b - a * (np.einsum("...i,...i", start, start) - np.float32(self.radius_m**2))
        depth = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root > 0) & (depth > 0), depth, FARTHEST_M)

    def faces(self, points: Singles) -> list[tuple[int, Flags, Singles, Singles]]:
        """Give longitude and latitude."""
        own = (points - np.array(self.centre, np.float32)) @ self._tilt() / np.float32(self.radius_m)
        u = np.arctan2(own[..., 1], own[..., 0]) / np.float32(2 * np.pi) + 0.5
        v = np.arccos(np.clip(own[..., 2], -1, 1)) / np.float32(np.pi)
        return [(0, np.ones(u.shape, bool), u, v)]

    def face_points(self, face: int, u: Singles, v: Singles) -> tuple[Singles, Singles]:
        """Give points and normals."""
        assert face == 0
        turn, down = (u - 0.5) * 2 * np.pi, v * np.pi
        own = np.stack([np.sin(down) * np.cos(turn), np.sin(down) * np.sin(turn), np.cos(down)], -1)
        normal = own.astype(np.float32) @ self._tilt().T
        return normal * np.float32(self.radius_m) + np.array(self.centre, np.float32), normal

    def corners(self) -> Singles:
        """Give the corners of the box round it."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
        return signs * np.float32(self.radius_m) + np.array(self.centre, np.float32)
