"""The hand-over to training: undistorted photos and masks, nerfstudio's transforms.json, points; and COLMAP's files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.poses.colmap.model_files import ColmapCamera, RegisteredImage, SparseModel
from modal_workers.nerf.stored_zip import write_zip

_POINTS: Final = "sparse_pc.ply"


def transforms(photos: Sequence[RegisteredImage], names: Mapping[str, str], masked: bool) -> dict[str, Any]:
    """Give transforms.json of undistorted photos; ``names`` maps their files to the names in the dataset.

    ``applied_transform`` is left out: the frame is the file's own. A mask is named for all photos or for none, as
    nerfstudio's reader wants it. Source: https://docs.nerf.studio/quickstart/data_conventions.html
    """
    lenses = [_intrinsics(photo.lens) for photo in photos]
    alike = all(lens == lenses[0] for lens in lenses)
    frames = []
    for photo, lens in zip(photos, lenses, strict=True):
        name = names[photo.name]
        frame: dict[str, Any] = {"file_path": f"images/{name}"}
        if masked:
            frame["mask_path"] = f"masks/{Path(name).stem}.png"
        if not alike:
            frame |= lens
        frame["transform_matrix"] = (photo.world_from_camera @ OPENGL_FROM_OPENCV).tolist()
        frames.append(frame)
    return {
        "camera_model": "OPENCV",
        **(lenses[0] if alike else {}),
        "ply_file_path": _POINTS,
        "frames": sorted(frames, key=lambda frame: str(frame["file_path"])),
    }


def _intrinsics(lens: ColmapCamera) -> dict[str, float | int]:
    (fx, fy), (cx, cy) = lens.focal_px, lens.centre_px
    none = dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": lens.width_px, "h": lens.height_px, **none}


def undistort_mask(mask: NDArray[np.uint8], lens: ColmapCamera, pinhole: ColmapCamera) -> NDArray[np.uint8]:
    """Bring a mask [h, w] to the undistorted photo; what lies outside of the photo is not the object.

    COLMAP has the centre of the first pixel at (0.5, 0.5), OpenCV at (0, 0).
    """
    # A mask may have been drawn on a smaller picture.
    if mask.shape != (lens.height_px, lens.width_px):
        mask = np.asarray(cv2.resize(mask, (lens.width_px, lens.height_px), interpolation=cv2.INTER_LINEAR), np.uint8)
    size = (pinhole.width_px, pinhole.height_px)
    across, down = cv2.initUndistortRectifyMap(
        _matrix(lens), np.array(lens.distortion), np.eye(3), _matrix(pinhole), size, cv2.CV_32FC1
    )
    return np.asarray(cv2.remap(mask, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)


def _matrix(lens: ColmapCamera) -> NDArray[np.float64]:
    (fx, fy), (cx, cy) = lens.focal_px, lens.centre_px
    return np.array([[fx, 0.0, cx - 0.5], [0.0, fy, cy - 0.5], [0.0, 0.0, 1.0]])


def write_masks(
    masks: Mapping[str, Path], original: SparseModel, undistorted: SparseModel, folder: Path, check: Callable[[], None]
) -> None:
    """Write the undistorted mask of every photo of the model that has one, as ``<file>.png``.

    Raises:
        ValueError: a mask cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lenses = {photo.name: photo.lens for photo in original.photos}
    for photo in undistorted.photos:
        if photo.name not in masks:
            continue
        check()
        mask = cv2.imread(str(masks[photo.name]), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"the mask of {photo.name} cannot be read")
        plain = undistort_mask(np.asarray(mask, np.uint8), lenses[photo.name], photo.lens)
        cv2.imwrite(str(folder / f"{photo.name}.png"), plain)


def write_points(model: SparseModel, folder: Path) -> None:
    """Write ``points.npz`` and the same as the PLY that nerfstudio starts its splats from."""
    xyz = model.xyz.astype(np.float32)
    np.savez(
        folder / "points.npz",
        xyz=xyz,
        rgb=model.rgb,
        error_px=model.error_px.astype(np.float32),
        track_length=model.track_length,
    )
    rows = np.empty(len(xyz), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
    rows["xyz"], rows["rgb"] = xyz, model.rgb
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(xyz)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "end_header",
    ]
    (folder / _POINTS).write_bytes("\n".join(header).encode() + b"\n" + rows.tobytes())


def write_dataset(
    target: Path,
    told: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    images: Path,
    masks: Path,
    points: Path,
    check: Callable[[], None],
) -> None:
    """Write ``dataset.zip``."""

    def entries() -> Iterator[tuple[str, bytes | Path]]:
        yield "transforms.json", (json.dumps(told, indent=1) + "\n").encode()
        for name in ("points.npz", _POINTS):
            yield name, points / name
        for file, name in sorted(names.items(), key=lambda one: one[1]):
            check()
            yield f"images/{name}", images / file
            mask = masks / f"{file}.png"
            if mask.exists():
                yield f"masks/{Path(name).stem}.png", mask

    write_zip(target, entries())
