"""The solids that the invented toy is built of, as rays meet them: blocks, round ones and balls.

All are convex, so that none throws a shadow on itself which its normals do not tell of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Masks = NDArray[np.bool_]

FARTHEST_M: Final = np.float32(1e6)
_PARALLEL: Final = np.float32(1e-9)


class Shape(Protocol):
    """A solid somewhere in the world; lengths in m."""

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Give at which multiple of each ray [..., 3] from ``origin`` [..., 3] it enters; ``FARTHEST_M`` if nowhere."""

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Give per face: its number, which points [..., 3] are on it, and their place u, v (0..1) in its picture."""

    def surface(self, face: int, count: int) -> tuple[Floats, Floats]:
        """Give points and normals [count, count, 3] of a face: rows along v, columns along u."""

    def corners(self) -> Floats:
        """Give the corners [8, 3] of a block around it."""


@dataclass(frozen=True)
class Block:
    """A block about ``centre``, of ``size`` along its own axes, the rows of ``axes``. Faces: +x -x +y -y +z -z."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    axes: Floats = field(default_factory=lambda: np.eye(3))

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the three pairs of planes (Kay and Kajiya, 1986)."""
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
        """Tell by the coordinate that is largest for its side."""
        local = (points - np.asarray(self.centre, np.float32)) @ self.axes.T.astype(np.float32)
        share = local / np.asarray(self.size, np.float32)
        x, y, z = (np.abs(share[..., axis]) for axis in range(3))
        axis = np.where(x > y, np.where(x > z, 0, 2), np.where(y > z, 1, 2)).astype(np.int8)
        for face in range(6):
            along, sign = divmod(face, 2)
            on_face = (axis == along) & ((share[..., along] < 0) == bool(sign))
            if not on_face.any():
                continue
            across, up = _BLOCK_UV[along]
            u = share[..., across] * (-1 if sign != (along == 1) else 1) + np.float32(0.5)
            yield face, on_face, np.asarray(u, np.float32), np.asarray(0.5 - share[..., up], np.float32)

    def surface(self, face: int, count: int) -> tuple[Floats, Floats]:
        """See the protocol."""
        along, sign = divmod(face, 2)
        across, up = _BLOCK_UV[along]
        steps = (np.arange(count) + 0.5) / count - 0.5
        local = np.zeros((count, count, 3))
        local[..., across] = steps * (-1 if sign != (along == 1) else 1)
        local[..., up] = -steps[:, None]
        local[..., along] = -0.5 if sign else 0.5
        normal = np.zeros(3)
        normal[along] = -1.0 if sign else 1.0
        points = local * self.size @ self.axes + self.centre
        return np.asarray(points), np.broadcast_to(normal @ self.axes, points.shape)

    def corners(self) -> Floats:
        """See the protocol."""
        return np.asarray(_SIGNS * np.asarray(self.size) / 2 @ self.axes + self.centre)


@dataclass(frozen=True)
class Round:
    """A piece of a cone about the third of ``axes``: two radii, below and above. Faces: side, top, bottom."""

    centre: tuple[float, float, float]
    radii: tuple[float, float]
    length: float
    axes: Floats = field(default_factory=lambda: np.eye(3))

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the cone, and the planes of its ends."""
        start, along = _local(self.axes, self.centre, origin, rays)
        half, (low, high) = np.float32(self.length / 2), self.radii
        slope, middle = np.float32((high - low) / self.length), np.float32((high + low) / 2)
        x, y, z = (start[..., axis] for axis in range(3))
        dx, dy, dz = (along[..., axis] for axis in range(3))
        radius, widening = middle + slope * z, slope * dz
        a = dx * dx + dy * dy - widening * widening
        b = x * dx + y * dy - radius * widening
        c = x * x + y * y - radius * radius
        inside = b * b - a * c
        root = np.sqrt(np.maximum(inside, 0))
        side = (-b - root) / np.where(np.abs(a) < _PARALLEL, _PARALLEL, a)
        meets = (inside > 0) & (side > 0) & (np.abs(z + side * dz) <= half)
        nearest = np.where(meets, side, FARTHEST_M)
        dz = np.where(np.abs(dz) < _PARALLEL, _PARALLEL, dz)
        for end, wide in ((-half, low), (half, high)):
            cap = (end - z) / dz
            meets = (cap > 0) & ((x + cap * dx) ** 2 + (y + cap * dy) ** 2 <= np.float32(wide * wide))
            nearest = np.where(meets & (cap < nearest), cap, nearest)
        return np.asarray(nearest, np.float32)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Tell the ends by how near they are."""
        local = (points - np.asarray(self.centre, np.float32)) @ self.axes.T.astype(np.float32)
        x, y, z = (local[..., axis] for axis in range(3))
        half, (low, high) = self.length / 2, self.radii
        radius = (high + low) / 2 + (high - low) / self.length * z
        from_side = np.abs(np.hypot(x, y) - radius)
        on_end = half - np.abs(z) < from_side
        around = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        yield 0, np.asarray(~on_end), np.asarray(around, np.float32), np.asarray(0.5 - z / self.length, np.float32)
        for face, sign, wide in ((1, 1, high), (2, -1, low)):
            here = on_end & (z * sign > 0)
            u, v = 0.5 + x / (2 * wide), 0.5 - sign * y / (2 * wide)
            yield face, here, np.asarray(u, np.float32), np.asarray(v, np.float32)

    def surface(self, face: int, count: int) -> tuple[Floats, Floats]:
        """See the protocol; an end's picture is a square around it."""
        steps = (np.arange(count) + 0.5) / count
        low, high = self.radii
        local, normals = np.zeros((count, count, 3)), np.zeros((count, count, 3))
        if face == 0:
            angle, z = (steps - 0.5) * 2 * np.pi, ((0.5 - steps) * self.length)[:, None]
            radius = (high + low) / 2 + (high - low) / self.length * z
            local[..., 0], local[..., 1], local[..., 2] = radius * np.cos(angle), radius * np.sin(angle), z
            normals[..., 0], normals[..., 1] = np.cos(angle), np.sin(angle)
            normals[..., 2] = (low - high) / self.length
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        else:
            sign, wide = (1, high) if face == 1 else (-1, low)
            local[..., 0], local[..., 1] = (steps - 0.5) * 2 * wide, sign * ((0.5 - steps) * 2 * wide)[:, None]
            local[..., 2], normals[..., 2] = sign * self.length / 2, sign
        return local @ self.axes + self.centre, normals @ self.axes

    def corners(self) -> Floats:
        """See the protocol."""
        widest = max(self.radii)
        return _SIGNS * (widest, widest, self.length / 2) @ self.axes + self.centre


@dataclass(frozen=True)
class Ball:
    """A ball. Face: its picture by longitude and latitude."""

    centre: tuple[float, float, float]
    radius: float

    def depth(self, origin: Singles, rays: Singles) -> Singles:
        """Meet the sphere."""
        start = (origin - np.asarray(self.centre)).astype(np.float32)
        a, b = (rays * rays).sum(-1), (start * rays).sum(-1)
        inside = b * b - a * ((start * start).sum(-1) - np.float32(self.radius**2))
        near = (-b - np.sqrt(np.maximum(inside, 0))) / a
        return np.asarray(np.where((inside > 0) & (near > 0), near, FARTHEST_M), np.float32)

    def faces(self, points: Singles) -> Iterator[tuple[int, Masks, Singles, Singles]]:
        """Give longitude and latitude."""
        x, y, z = np.moveaxis((points - np.asarray(self.centre, np.float32)) / np.float32(self.radius), -1, 0)
        longitude = np.arctan2(y, x) / np.float32(2 * np.pi) + np.float32(0.5)
        yield 0, np.ones(x.shape, bool), longitude, np.arccos(np.clip(z, -1, 1)) / np.float32(np.pi)

    def surface(self, face: int, count: int) -> tuple[Floats, Floats]:  # noqa: ARG002 - it has but one
        """See the protocol."""
        steps = (np.arange(count) + 0.5) / count
        longitude, down = (steps - 0.5) * 2 * np.pi, (steps * np.pi)[:, None]
        normals = np.stack(
            np.broadcast_arrays(np.sin(down) * np.cos(longitude), np.sin(down) * np.sin(longitude), np.cos(down)), -1
        )
        return normals * self.radius + self.centre, normals

    def corners(self) -> Floats:
        """See the protocol."""
        return _SIGNS * self.radius + self.centre


_SIGNS: Final = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
#: Which coordinates of a block run along and up a face's picture, by the axis that the face looks along.
_BLOCK_UV: Final = ((1, 2), (0, 2), (0, 1))


def _local(axes: Floats, centre: tuple[float, float, float], origin: Singles, rays: Singles) -> tuple[Singles, Singles]:
    turn = axes.T.astype(np.float32)
    return (origin - np.asarray(centre, np.float32)) @ turn, rays @ turn
