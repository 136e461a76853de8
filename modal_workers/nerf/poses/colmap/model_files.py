"""COLMAP's binary model, read without pycolmap: cameras, photos with their poses, points with their tracks.

Source: https://colmap.github.io/format.html#binary-file-format. Axes are OpenCV's: x right, y down, z forward; the
centre of the first pixel is at (0.5, 0.5).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Name and number of parameters of the models that are written here.
_MODELS: Final = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
#: Points whose seers are counted at once: bounds the memory of a large capture.
_POINTS_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class ColmapCamera:
    """One camera's intrinsics."""

    model: str
    width_px: int
    height_px: int
    params: tuple[float, ...]

    @property
    def focal_px(self) -> tuple[float, float]:
        """Give the focal lengths across and down."""
        return (
            self.params[0],
            self.params[0] if self.model.startswith("SIMPLE") or self.model == "RADIAL" else self.params[1],
        )

    @property
    def centre_px(self) -> tuple[float, float]:
        """Give the principal point."""
        first = 1 if self.model.startswith("SIMPLE") or self.model == "RADIAL" else 2
        return self.params[first], self.params[first + 1]

    @property
    def distortion(self) -> tuple[float, float, float, float]:
        """Give k1, k2, p1, p2 as OpenCV has them."""
        left = self.params[{"SIMPLE_RADIAL": 3, "RADIAL": 3, "OPENCV": 4}.get(self.model, len(self.params)) :]
        k1, k2, p1, p2 = (*left, 0.0, 0.0, 0.0, 0.0)[:4]
        return k1, k2, p1, p2


@dataclass(frozen=True)
class RegisteredImage:
    """One photo that has a pose."""

    image_id: int
    name: str
    lens: ColmapCamera
    #: [4, 4], OpenCV axes.
    world_from_camera: Floats

    @property
    def centre(self) -> Floats:
        """Give where the camera was [3]."""
        return self.world_from_camera[:3, 3]


@dataclass(frozen=True)
class SparseModel:
    """One model. Photos are sorted by name; the arrays of points share their first axis."""

    photos: tuple[RegisteredImage, ...]
    xyz: Floats
    rgb: NDArray[np.uint8]
    error_px: Floats
    track_length: NDArray[np.int32]
    #: [2, observations]: which photo (its place in ``photos``) sees which point (its place in ``xyz``).
    observations: NDArray[np.int32]

    @cached_property
    def centres(self) -> Floats:
        """Give where the cameras were [N, 3]."""
        return np.array([photo.centre for photo in self.photos]).reshape(-1, 3)

    @cached_property
    def points_seen(self) -> NDArray[np.int64]:
        """Count the points that each photo sees [N]."""
        return np.bincount(self.observations[0], minlength=len(self.photos))

    @cached_property
    def shared_points(self) -> NDArray[np.int64]:
        """Count the points that each two photos share [N, N]; on the diagonal, those of each one."""
        shared = np.zeros((len(self.photos), len(self.photos)), np.int64)
        for first in range(0, len(self.xyz), _POINTS_AT_ONCE):
            here = (self.observations[1] >= first) & (self.observations[1] < first + _POINTS_AT_ONCE)
            seen = np.zeros((len(self.photos), _POINTS_AT_ONCE), np.float32)
            seen[self.observations[0, here], self.observations[1, here] - first] = 1
            shared += np.rint(seen @ seen.T).astype(np.int64)
        return shared


def read_model(folder: Path) -> SparseModel:
    """Read ``cameras.bin``, ``images.bin`` and ``points3D.bin``.

    Raises:
        OSError: one is missing.
        ValueError, struct.error: one is not whole.
    """
    lenses = _read_cameras((folder / "cameras.bin").read_bytes())
    photos = _read_images((folder / "images.bin").read_bytes(), lenses)
    places = {photo.image_id: place for place, photo in enumerate(photos)}
    return _read_points((folder / "points3D.bin").read_bytes(), photos, places)


def _read_cameras(data: bytes) -> dict[int, ColmapCamera]:
    (count,), at, lenses = struct.unpack_from("<Q", data), 8, {}
    for _ in range(count):
        camera_id, model_id, width_px, height_px = struct.unpack_from("<iiQQ", data, at)
        if model_id not in _MODELS:
            raise ValueError(f"camera model {model_id} is not one of ours")
        name, numbers = _MODELS[model_id]
        lenses[camera_id] = ColmapCamera(name, width_px, height_px, struct.unpack_from(f"<{numbers}d", data, at + 24))
        at += 24 + 8 * numbers
    return lenses


def _read_images(data: bytes, lenses: dict[int, ColmapCamera]) -> tuple[RegisteredImage, ...]:
    (count,), at, photos = struct.unpack_from("<Q", data), 8, []
    for _ in range(count):
        image_id, *pose, camera_id = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (seen,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * seen
        photos.append(RegisteredImage(image_id, name, lenses[camera_id], _world_from_camera(np.array(pose))))
    return tuple(sorted(photos, key=lambda photo: photo.name))


def _world_from_camera(pose: Floats) -> Floats:
    w, x, y, z = pose[:4] / np.linalg.norm(pose[:4])
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.T
    matrix[:3, 3] = -rotation.T @ pose[4:]
    return matrix


def _read_points(data: bytes, photos: tuple[RegisteredImage, ...], places: dict[int, int]) -> SparseModel:
    (count,), at = struct.unpack_from("<Q", data), 8
    xyz, rgb = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    error_px, track_length = np.empty(count), np.empty(count, np.int32)
    seen: list[NDArray[np.int32]] = []
    place_of = np.full(max(places, default=0) + 1, -1, np.int32)
    for image_id, place in places.items():
        place_of[image_id] = place
    for number in range(count):
        _, *position, red, green, blue, error, length = struct.unpack_from("<Q3d3BdQ", data, at)
        xyz[number], rgb[number], error_px[number] = position, (red, green, blue), error
        # A photo may see a point twice, in two features.
        track = np.unique(place_of[np.frombuffer(data, "<i4", 2 * length, at + 51)[::2]])
        track_length[number] = len(track)
        seen.append(np.stack([track, np.full(len(track), number, np.int32)]))
        at += 51 + 8 * length
    observations = np.concatenate(seen, axis=1) if seen else np.empty((2, 0), np.int32)
    return SparseModel(photos, xyz, rgb, error_px, track_length, observations)
