"""The photos with their poses, masks and points, as the stage of the poses left them in ``dataset.zip``."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.camera import Camera
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo at the size of training."""

    name: str
    camera: Camera
    world_from_camera: Floats  # [4, 4] OpenCV axes
    picture: Bytes  # [H, W, 3] RGB
    mask: Bytes | None  # [H, W] 255 = object


@dataclass(frozen=True)
class Dataset:
    """All photos, and the points that structure from motion has found, in its own unit."""

    views: list[TrainingPhoto]
    points: Floats  # [N, 3]
    colours: Bytes  # [N, 3]


def read_dataset(path: Path, size_px: int) -> Dataset:
    """Read the photos with their long side at most ``size_px``.

    Raises:
        SaccadeError: INTERNAL, the file is not what the stage before should have left.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("transforms.json"))
            views = [_view(archive, described | frame, size_px) for frame in described["frames"]]
            with np.load(io.BytesIO(archive.read("points.npz")), allow_pickle=False) as points:
                xyz, rgb = points["xyz"].astype(np.float64), points["rgb"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SaccadeError(ErrorCode.INTERNAL, f"The dataset of the poses cannot be read: {error}") from error
    return Dataset(views, xyz, rgb)


def _view(archive: zipfile.ZipFile, frame: dict[str, Any], size_px: int) -> TrainingPhoto:
    encoded = archive.read(frame["file_path"])
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ValueError(f"{frame['file_path']} is no picture")
    height, width = picture.shape[:2]
    given = Camera(
        int(frame["w"]),
        int(frame["h"]),
        float(frame["fl_x"]),
        float(frame["fl_y"]),
        float(frame["cx"]),
        float(frame["cy"]),
    )
    if (given.width_px, given.height_px) != (width, height):
        raise ValueError(f"{frame['file_path']} is {width} x {height}, not as its camera says")
    camera = given.scaled(min(1.0, size_px / max(width, height)))
    mask: Any = None
    if frame.get("mask_path"):
        mask = cv2.imdecode(np.frombuffer(archive.read(frame["mask_path"]), np.uint8), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"{frame['mask_path']} is no picture")
        mask = resized(np.asarray(mask, np.uint8), camera)
    pose = np.array(frame["transform_matrix"], np.float64) @ OPENGL_FROM_OPENCV
    return TrainingPhoto(
        Path(frame["file_path"]).stem, camera, pose, resized(np.asarray(picture, np.uint8), camera), mask
    )


def resized(picture: Bytes, camera: Camera) -> Bytes:
    """Give a picture at a camera's size, averaged over what each pixel covers."""
    size = (camera.width_px, camera.height_px)
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
