"""COLMAP's model files, read without pycolmap: cameras, registered images with poses, points with tracks.

Binary models are read whole, of text models the cameras and poses. Source: https://colmap.github.io/format.html. Axes
are OpenCV's: x right, y down, z forward; the centre of the first pixel is at (0.5, 0.5).
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

#: Camera models in the order of their ids: which parameters are fx, fy, cx, cy, k1, k2, p1, p2.
CAMERA_MODELS: Final[dict[str, tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2, 3),
    "RADIAL": (0, 0, 1, 2, 3, 4),
    "OPENCV": (0, 1, 2, 3, 4, 5, 6, 7),
}
#: Points whose observations are counted at once: bounds the memory of a large capture.
_POINTS_AT_ONCE: Final = 20_000


@dataclass(frozen=True)
class ColmapCamera:
    """Intrinsics of one camera."""

    model: str
    width_px: int
    height_px: int
    params: tuple[float, ...]

    @property
    def focal_px(self) -> tuple[float, float]:
        """Focal lengths in x and y."""
        fx, fy, *_ = CAMERA_MODELS[self.model]
        return self.params[fx], self.params[fy]

    @property
    def centre_px(self) -> tuple[float, float]:
        """Principal point, from the corner of the first pixel."""
        _, _, cx, cy, *_ = CAMERA_MODELS[self.model]
        return self.params[cx], self.params[cy]

    @property
    def matrix(self) -> Floats:
        """OpenCV's camera matrix [3, 3], which counts pixels from the centre of the first one."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]])

    @property
    def distortion(self) -> tuple[float, float, float, float]:
        """Distortion k1, k2, p1, p2 as in OpenCV."""
        terms = [self.params[place] for place in CAMERA_MODELS[self.model][4:]]
        k1, k2, p1, p2 = (*terms, 0.0, 0.0, 0.0, 0.0)[:4]
        return k1, k2, p1, p2


@dataclass(frozen=True)
class RegisteredImage:
    """One image with a pose."""

    image_id: int
    name: str
    camera: ColmapCamera
    #: [4, 4], OpenCV axes.
    world_from_camera: Floats

    @property
    def centre(self) -> Floats:
        """Position of the camera [3]."""
        return self.world_from_camera[:3, 3]


@dataclass(frozen=True)
class SparseModel:
    """One reconstruction. Images are sorted by name; the arrays of points share their first axis."""

    images: tuple[RegisteredImage, ...]
    xyz: Floats
    rgb: NDArray[np.uint8]
    error_px: Floats
    track_length: NDArray[np.int32]
    #: [2, observations]: index in ``images`` and index in ``xyz`` of each observation.
    observations: NDArray[np.int32]

    @cached_property
    def centres(self) -> Floats:
        """Positions of the cameras [N, 3]."""
        return np.array([image.centre for image in self.images]).reshape(-1, 3)

    @cached_property
    def points_seen(self) -> NDArray[np.int64]:
        """Number of points that each image observes [N]."""
        return np.bincount(self.observations[0], minlength=len(self.images))

    @cached_property
    def shared_points(self) -> NDArray[np.int64]:
        """Number of points that each two images share [N, N]; the diagonal has the points of each image."""
        shared = np.zeros((len(self.images), len(self.images)), np.int64)
        for first in range(0, len(self.xyz), _POINTS_AT_ONCE):
            here = (self.observations[1] >= first) & (self.observations[1] < first + _POINTS_AT_ONCE)
            seen = np.zeros((len(self.images), _POINTS_AT_ONCE), np.float32)
            seen[self.observations[0, here], self.observations[1, here] - first] = 1
            shared += np.rint(seen @ seen.T).astype(np.int64)
        return shared


def read_model(folder: Path) -> SparseModel:
    """Read ``cameras.bin``, ``images.bin`` and ``points3D.bin``.

    Raises:
        OSError: a file is missing.
        ValueError, struct.error: a file is truncated or has an unknown camera model.
    """
    cameras = _read_cameras((folder / "cameras.bin").read_bytes())
    images = _read_images((folder / "images.bin").read_bytes(), cameras)
    return _read_points((folder / "points3D.bin").read_bytes(), images)


def parse_cameras(text: str) -> dict[int, ColmapCamera]:
    """Return the cameras of ``cameras.txt`` by id.

    Raises:
        ValueError: a line is malformed or has an unknown camera model.
    """
    cameras = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        camera_id, model, width_px, height_px, *params = line.split()
        if model not in CAMERA_MODELS or len(params) <= max(CAMERA_MODELS[model]):
            raise ValueError(f"a camera of the model {model}")
        cameras[int(camera_id)] = ColmapCamera(model, int(width_px), int(height_px), tuple(map(float, params)))
    return cameras


def parse_poses(text: str) -> dict[str, Floats]:
    """Return ``camera_from_world`` [4, 4] of ``images.txt`` by image name.

    Raises:
        ValueError: a line is malformed.
    """
    poses = {}
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines[::2]:  # each image has a second line with its points
        if line.strip():
            _, *pose, _, name = line.split(maxsplit=9)
            poses[name] = _camera_from_world(np.array([float(value) for value in pose]))
    return poses


def _read_cameras(data: bytes) -> dict[int, ColmapCamera]:
    (count,), at, cameras = struct.unpack_from("<Q", data), 8, {}
    models = tuple(CAMERA_MODELS)
    for _ in range(count):
        camera_id, model_id, width_px, height_px = struct.unpack_from("<iiQQ", data, at)
        if not 0 <= model_id < len(models):
            raise ValueError(f"camera model {model_id} is not supported")
        model = models[model_id]
        numbers = 1 + max(CAMERA_MODELS[model])
        cameras[camera_id] = ColmapCamera(model, width_px, height_px, struct.unpack_from(f"<{numbers}d", data, at + 24))
        at += 24 + 8 * numbers
    return cameras


def _read_images(data: bytes, cameras: dict[int, ColmapCamera]) -> tuple[RegisteredImage, ...]:
    (count,), at, images = struct.unpack_from("<Q", data), 8, []
    for _ in range(count):
        image_id, *pose, camera_id = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode()
        (observations,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * observations
        world_from_camera = _inverse(_camera_from_world(np.array(pose)))
        images.append(RegisteredImage(image_id, name, cameras[camera_id], world_from_camera))
    return tuple(sorted(images, key=lambda image: image.name))


def _camera_from_world(pose: Floats) -> Floats:
    """Return the matrix [4, 4] of a pose [7]: quaternion w, x, y, z and translation."""
    w, x, y, z = pose[:4] / np.linalg.norm(pose[:4])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = pose[4:]
    return matrix


def _inverse(pose: Floats) -> Floats:
    matrix = np.eye(4)
    matrix[:3, :3] = pose[:3, :3].T
    matrix[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return matrix


def _read_points(data: bytes, images: tuple[RegisteredImage, ...]) -> SparseModel:
    (count,), at = struct.unpack_from("<Q", data), 8
    xyz, rgb = np.empty((count, 3)), np.empty((count, 3), np.uint8)
    error_px, track_length = np.empty(count), np.empty(count, np.int32)
    observations: list[NDArray[np.int32]] = []
    index_of = np.full(max((image.image_id for image in images), default=0) + 1, -1, np.int32)
    for index, image in enumerate(images):
        index_of[image.image_id] = index
    for number in range(count):
        _, *position, red, green, blue, error, length = struct.unpack_from("<Q3d3BdQ", data, at)
        xyz[number], rgb[number], error_px[number] = position, (red, green, blue), error
        # An image may observe a point twice, in two features.
        track = np.unique(index_of[np.frombuffer(data, "<i4", 2 * length, at + 51)[::2]])
        track_length[number] = len(track)
        observations.append(np.stack([track, np.full(len(track), number, np.int32)]))
        at += 51 + 8 * length
    joined = np.concatenate(observations, axis=1) if observations else np.empty((2, 0), np.int32)
    return SparseModel(images, xyz, rgb, error_px, track_length, joined)
