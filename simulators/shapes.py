"""Convex solids for ray casting: where rays hit them, and the texture coordinates of the hit on each face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Masks = NDArray[np.bool_]
Picture = NDArray[np.uint8]

#: Depth of a ray that hits nothing.
FARTHEST_M: Final = np.float32(1e6)
_PARALLEL: Final = np.float32(1e-9)


class Shape(Protocol):
    """A convex solid in the world, m; a convex solid does not shadow itself beyond what its normals say.

    Each face has a picture whose texture coordinates u, v run from 0 to 1, right and down.
    """

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Return the multiple [...] of rays [..., 3] from ``origin`` [..., 3] or [3] at the hit, or FARTHEST_M."""

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Yield for each face: its number, which points [..., 3] are on it, and their texture coordinates u, v."""

    def face_points(self, face: int, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return points and outward normals [..., 3] at texture coordinates [...] of a face: inverse of ``faces``."""

    def corners(self) -> Floats:
        """Return the corners [8, 3] of a box around it."""

    @property
    def face_count(self) -> int:
        """Number of faces."""


@dataclass(frozen=True)
class Box:
    """A box with ``size`` along its own axes, the rows of ``axes``. Faces: +x, -x, +y, -y, +z, -z."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    axes: Floats = field(default_factory=lambda: np.eye(3))
    face_count: int = 6

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Intersect with three slabs (Kay and Kajiya, 1986)."""
        start, along = _local(self.axes, self.centre, origin, rays)
        half = np.asarray(self.size, np.float32) / 2
        along = np.where(np.abs(along) < _PARALLEL, _PARALLEL, along)
        inverse = np.float32(1) / along
        near, far = np.full(along.shape[:-1], -FARTHEST_M), np.full(along.shape[:-1], FARTHEST_M)
        for axis in range(3):  # component by component: reductions along an axis of three are slow
            first = (-half[axis] - start[..., axis]) * inverse[..., axis]
            second = (half[axis] - start[..., axis]) * inverse[..., axis]
            near = np.maximum(near, np.minimum(first, second))
            far = np.minimum(far, np.maximum(first, second))
        return np.asarray(np.where((near <= far) & (near > 0), near, FARTHEST_M), np.float32)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Yield the faces that are hit, by the largest coordinate relative to the size."""
        local = _turned(points - np.asarray(self.centre, np.float32), self.axes)
        share = [local[..., axis] / np.float32(size) for axis, size in enumerate(self.size)]
        x, y, z = (np.abs(part) for part in share)
        on_axis = (x > y) & (x > z), (y > z) & (x <= y), (z >= x) & (z >= y)
        for face in range(6):
            along, sign = divmod(face, 2)
            on_face = on_axis[along] & ((share[along] < 0) == bool(sign))
            if not on_face.any():
                continue
            across, up = _BOX_UV[along]
            u = share[across] * (-1 if sign != (along == 1) else 1) + np.float32(0.5)
            yield face, on_face, np.asarray(u, np.float32), np.asarray(0.5 - share[up], np.float32)

    def face_points(self, face: int, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return points and normals of a face."""
        along, sign = divmod(face, 2)
        across, up = _BOX_UV[along]
        local = np.zeros((*np.shape(u), 3))
        local[..., across] = (u - 0.5) * (-1 if sign != (along == 1) else 1)
        local[..., up] = -(v - 0.5)
        local[..., along] = -0.5 if sign else 0.5
        normal = np.zeros(3)
        normal[along] = -1.0 if sign else 1.0
        points = local * self.size @ self.axes + self.centre
        return np.asarray(points), np.broadcast_to(normal @ self.axes, points.shape)

    def corners(self) -> Floats:
        """Return the corners."""
        return np.asarray(_SIGNS * np.asarray(self.size) / 2 @ self.axes + self.centre)


@dataclass(frozen=True)
class Frustum:
    """A truncated cone or a cylinder about the third of ``axes``; radii at its bottom and its top.

    Faces: side (u once around from the negative first axis), top, bottom; the picture of an end is its bounding square.
    """

    centre: tuple[float, float, float]
    radii: tuple[float, float]
    length: float
    axes: Floats = field(default_factory=lambda: np.eye(3))
    face_count: int = 3

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Intersect with the cone and with the planes of its ends."""
        start, along = _local(self.axes, self.centre, origin, rays)
        half, (low, high) = np.float32(self.length / 2), self.radii
        slope, middle = np.float32((high - low) / self.length), np.float32((high + low) / 2)
        x, y, z = (start[..., axis] for axis in range(3))
        dx, dy, dz = (along[..., axis] for axis in range(3))
        radius, widening = middle + slope * z, slope * dz
        a = dx * dx + dy * dy - widening * widening
        b = x * dx + y * dy - radius * widening
        c = x * x + y * y - radius * radius
        discriminant = b * b - a * c
        root = np.sqrt(np.maximum(discriminant, 0))
        side = (-b - root) / np.where(np.abs(a) < _PARALLEL, _PARALLEL, a)
        hit = (discriminant > 0) & (side > 0) & (np.abs(z + side * dz) <= half)
        nearest = np.where(hit, side, FARTHEST_M)
        dz = np.where(np.abs(dz) < _PARALLEL, _PARALLEL, dz)
        for end, end_radius in ((-half, low), (half, high)):
            cap = (end - z) / dz
            hit = (cap > 0) & ((x + cap * dx) ** 2 + (y + cap * dy) ** 2 <= np.float32(end_radius * end_radius))
            nearest = np.where(hit & (cap < nearest), cap, nearest)
        return np.asarray(nearest, np.float32)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Yield the faces; a point belongs to the nearest one."""
        local = (points - np.asarray(self.centre, np.float32)) @ self.axes.T.astype(np.float32)
        x, y, z = (local[..., axis] for axis in range(3))
        half, (low, high) = self.length / 2, self.radii
        radius = (high + low) / 2 + (high - low) / self.length * z
        from_side = np.abs(np.hypot(x, y) - radius)
        on_end = half - np.abs(z) < from_side
        around = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        yield 0, np.asarray(~on_end), np.asarray(around, np.float32), np.asarray(0.5 - z / self.length, np.float32)
        for face, sign, end_radius in ((1, 1, high), (2, -1, low)):
            here = on_end & (z * sign > 0)
            u, v = 0.5 + x / (2 * end_radius), 0.5 - sign * y / (2 * end_radius)
            yield face, here, np.asarray(u, np.float32), np.asarray(v, np.float32)

    def face_points(self, face: int, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return points and normals of the side or of an end (the corners of its square lie outside the disc)."""
        low, high = self.radii
        local, normals = np.zeros((*np.shape(u), 3)), np.zeros((*np.shape(u), 3))
        if face == 0:
            angle, z = (u - 0.5) * 2 * np.pi, (0.5 - v) * self.length
            radius = (high + low) / 2 + (high - low) / self.length * z
            local[..., 0], local[..., 1], local[..., 2] = radius * np.cos(angle), radius * np.sin(angle), z
            normals[..., 0], normals[..., 1] = np.cos(angle), np.sin(angle)
            normals[..., 2] = (low - high) / self.length
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        else:
            sign, end_radius = (1, high) if face == 1 else (-1, low)
            local[..., 0], local[..., 1] = (u - 0.5) * 2 * end_radius, sign * ((0.5 - v) * 2 * end_radius)
            local[..., 2], normals[..., 2] = sign * self.length / 2, sign
        return local @ self.axes + self.centre, normals @ self.axes

    def corners(self) -> Floats:
        """Return the corners of the box around it."""
        largest = max(self.radii)
        return _SIGNS * (largest, largest, self.length / 2) @ self.axes + self.centre


@dataclass(frozen=True)
class Sphere:
    """A sphere with its poles on the third of ``axes``. One face: u by longitude, v from pole to pole."""

    centre: tuple[float, float, float]
    radius: float
    axes: Floats = field(default_factory=lambda: np.eye(3))
    face_count: int = 1

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Intersect with the near side."""
        start = (origin - np.asarray(self.centre)).astype(np.float32)
        a, b = (rays * rays).sum(-1), (start * rays).sum(-1)
        discriminant = b * b - a * ((start * start).sum(-1) - np.float32(self.radius**2))
        near = (-b - np.sqrt(np.maximum(discriminant, 0))) / a
        return np.asarray(np.where((discriminant > 0) & (near > 0), near, FARTHEST_M), np.float32)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Yield longitude and latitude."""
        local = (points - np.asarray(self.centre, np.float32)) @ self.axes.T.astype(np.float32)
        x, y, z = np.moveaxis(local / np.float32(self.radius), -1, 0)
        longitude = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        yield 0, np.ones(x.shape, bool), longitude, np.arccos(np.clip(z, -1, 1)) / np.float32(np.pi)

    def face_points(self, face: int, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return points and normals."""
        assert face == 0
        longitude, down = (u - 0.5) * 2 * np.pi, v * np.pi
        local = np.stack([np.sin(down) * np.cos(longitude), np.sin(down) * np.sin(longitude), np.cos(down)], -1)
        normals = local @ self.axes
        return normals * self.radius + self.centre, normals

    def corners(self) -> Floats:
        """Return the corners of the box around it."""
        return _SIGNS * self.radius + self.centre


@dataclass(frozen=True)
class Sheet:
    """A horizontal rectangle from ``low`` to ``high`` (x, y), visible from above only.

    Its picture is seen with +x upwards, as a robot arm at the origin sees it.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    height_m: float = 0.0
    face_count: int = 1

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Intersect with the plane, within the rectangle."""
        down = rays[..., 2]
        with np.errstate(divide="ignore"):
            depth = (np.float32(self.height_m) - origin[..., 2]) / down
        x, y = origin[..., 0] + depth * rays[..., 0], origin[..., 1] + depth * rays[..., 1]
        inside = (x >= self.low[0]) & (x < self.high[0]) & (y >= self.low[1]) & (y < self.high[1])
        return np.where(inside & (down < 0) & (depth > 0), depth, FARTHEST_M)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Yield the texture coordinates."""
        u = (self.high[1] - points[..., 1]) / np.float32(self.high[1] - self.low[1])
        v = (self.high[0] - points[..., 0]) / np.float32(self.high[0] - self.low[0])
        yield 0, np.ones(u.shape, bool), u, v

    def face_points(self, face: int, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return points of the rectangle; normals point up."""
        assert face == 0
        x = self.high[0] - v * (self.high[0] - self.low[0])
        y = self.high[1] - u * (self.high[1] - self.low[1])
        points = np.stack([x, y, np.full_like(x, self.height_m)], -1)
        return points, np.broadcast_to(np.array([0.0, 0.0, 1.0]), points.shape)

    def corners(self) -> Floats:
        """Return the corners of the rectangle, twice."""
        (x0, y0), (x1, y1) = self.low, self.high
        return np.array([[x, y, self.height_m] for x in (x0, x1) for y in (y0, y1)] * 2)


def face_grid(shape: Shape, face: int, count: int) -> tuple[Floats, Floats]:
    """Return points and normals [count, count, 3] on a regular grid of a face: rows along v, columns along u."""
    u, v = np.meshgrid(*[(np.arange(count) + 0.5) / count] * 2)
    return shape.face_points(face, np.asarray(u), np.asarray(v))


def rotated_about_z(yaw_rad: float) -> Floats:
    """Return the axes [3, 3] (rows) of a shape turned about the vertical."""
    cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def mip_pyramid(texture: Picture) -> tuple[Picture, ...]:
    """Return a texture and its reductions, each half as wide as the one before."""
    levels = [np.ascontiguousarray(texture)]
    while min(levels[-1].shape[:2]) >= 8:
        height, width = levels[-1].shape[:2]
        half = cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8))
    return tuple(levels)


_WORLD_AXES: Final = np.eye(3)
_SIGNS: Final = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
#: Axes of a box that run along u and against v of a face's picture, by the axis of the face's normal.
_BOX_UV: Final = ((1, 2), (0, 2), (0, 1))


def _local(axes: Floats, centre: tuple[float, float, float], origin: Singles, rays: Singles) -> tuple[Singles, Singles]:
    return _turned(origin - np.asarray(centre, np.float32), axes), _turned(rays, axes)


def _turned(vectors: Singles, axes: Floats) -> Singles:
    """Return vectors [..., 3] along the axes of a shape; most shapes have those of the world."""
    return vectors if np.array_equal(axes, _WORLD_AXES) else vectors @ axes.T.astype(np.float32)


def points_at(origin: Singles, rays: Singles, depth: Singles) -> Singles:
    """Return the points [..., 3] at a depth [...] on rays [..., 3] from ``origin`` [3] or [..., 3]."""
    points = np.empty(rays.shape, np.float32)
    for axis in range(3):  # component by component: numpy is slow along an axis of three
        np.multiply(depth, rays[..., axis], out=points[..., axis])
        points[..., axis] += origin[..., axis]
    return points


def window_of(seen: Masks) -> tuple[slice, slice] | None:
    """Return the rows and columns around the pixels [H, W] that are seen; None where none is."""
    rows = np.flatnonzero(seen.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(seen[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def draw_where(seen: Masks, picture: Picture, colours: Picture) -> None:
    """Draw colours [H, W, 3] into the pixels of an image that are seen."""
    cv2.copyTo(colours, seen.view(np.uint8), picture)
