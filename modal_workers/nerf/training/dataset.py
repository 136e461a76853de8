"""Reader of ``dataset.zip``: the photos with their poses, masks and points."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.gaussians.camera import Camera
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.found_object import OBJECT, FoundObject

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

#: The first of this many photos is held out of the training, for scores; gsplat holds out none of fewer photos.
HELD_OUT_EVERY: Final = 8


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo at the size of training."""

    name: str
    camera: Camera
    world_from_camera: Floats  # [4, 4] OpenCV axes
    image: Bytes  # [H, W, 3] RGB
    mask: Bytes | None  # [H, W] 255 = object


@dataclass(frozen=True)
class Dataset:
    """All photos, and the points of structure from motion, in its own unit."""

    photos: list[TrainingPhoto]
    points: Floats  # [N, 3]
    colours: Bytes  # [N, 3]
    found: FoundObject | None = None  # None where masks tell what the object is


def read_dataset(path: Path, size_px: int) -> Dataset:
    """Read the photos with their long side at most ``size_px``.

    Raises:
        SaccadeError: INTERNAL, the file is not what the poses stage writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            transforms = json.loads(archive.read("transforms.json"))
            photos = [_read_photo(archive, transforms | frame, size_px) for frame in transforms["frames"]]
            with np.load(io.BytesIO(archive.read("points.npz")), allow_pickle=False) as points:
                xyz, rgb = points["xyz"].astype(np.float64), points["rgb"]
            found = FoundObject.model_validate_json(archive.read(OBJECT)) if OBJECT in archive.namelist() else None
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SaccadeError(ErrorCode.INTERNAL, f"The dataset of the poses stage cannot be read: {error}") from error
    return Dataset(photos, xyz, rgb, found)


def _read_photo(archive: zipfile.ZipFile, frame: dict[str, Any], size_px: int) -> TrainingPhoto:
    encoded = archive.read(frame["file_path"])
    image = decode_picture(encoded, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise ValueError(f"{frame['file_path']} is not an image")
    height, width = image.shape[:2]
    given = Camera(
        int(frame["w"]),
        int(frame["h"]),
        float(frame["fl_x"]),
        float(frame["fl_y"]),
        float(frame["cx"]),
        float(frame["cy"]),
    )
    if (given.width_px, given.height_px) != (width, height):
        raise ValueError(f"{frame['file_path']} is {width} x {height}, not the size of its camera")
    camera = given.scaled(min(1.0, size_px / max(width, height)))
    mask: Any = None
    if frame.get("mask_path"):
        mask = decode_picture(archive.read(frame["mask_path"]), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"{frame['mask_path']} is not an image")
        mask = resized(np.asarray(mask, np.uint8), camera)
    pose = np.array(frame["transform_matrix"], np.float64) @ OPENGL_FROM_OPENCV
    return TrainingPhoto(
        Path(frame["file_path"]).stem, camera, pose, resized(np.asarray(image, np.uint8), camera), mask
    )


def resized(image: Bytes, camera: Camera) -> Bytes:
    """Return an image at the size of a camera, averaged over the area of each pixel."""
    size = (camera.width_px, camera.height_px)
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
