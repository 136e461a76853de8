"""Training dataset: undistorted photos and masks, nerfstudio's transforms.json, and points."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.nerf.axis_conventions import OPENGL_FROM_OPENCV
from modal_workers.nerf.found_object import OBJECT, FoundObject
from modal_workers.nerf.poses.colmap.model_files import ColmapCamera, RegisteredImage, SparseModel
from modal_workers.nerf.stored_zip import write_zip

_POINTS: Final = "sparse_pc.ply"


def transforms(photos: Sequence[RegisteredImage], names: Mapping[str, str], with_masks: bool) -> dict[str, Any]:
    """Return transforms.json of undistorted photos; ``names`` maps their files to the names in the dataset.

    ``applied_transform`` is left out: the frame is that of the file. Masks are listed for all photos or for none, as
    nerfstudio's reader requires. Source: https://docs.nerf.studio/quickstart/data_conventions.html
    """
    cameras = [_intrinsics(photo.camera) for photo in photos]
    shared = all(camera == cameras[0] for camera in cameras)
    frames = []
    for photo, camera in zip(photos, cameras, strict=True):
        name = names[photo.name]
        frame: dict[str, Any] = {"file_path": f"images/{name}"}
        if with_masks:
            frame["mask_path"] = f"masks/{Path(name).stem}.png"
        if not shared:
            frame |= camera
        frame["transform_matrix"] = (photo.world_from_camera @ OPENGL_FROM_OPENCV).tolist()
        frames.append(frame)
    return {
        "camera_model": "OPENCV",
        **(cameras[0] if shared else {}),
        "ply_file_path": _POINTS,
        "frames": sorted(frames, key=lambda frame: str(frame["file_path"])),
    }


def _intrinsics(camera: ColmapCamera) -> dict[str, float | int]:
    (fx, fy), (cx, cy) = camera.focal_px, camera.centre_px
    no_distortion = dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0)
    return {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": camera.width_px, "h": camera.height_px, **no_distortion}


def undistort_mask(mask: NDArray[np.uint8], camera: ColmapCamera, pinhole: ColmapCamera) -> NDArray[np.uint8]:
    """Return a mask [h, w] warped to the undistorted photo; outside of the photo it is background."""
    # A mask may be smaller than its photo.
    if mask.shape != (camera.height_px, camera.width_px):
        mask = np.asarray(
            cv2.resize(mask, (camera.width_px, camera.height_px), interpolation=cv2.INTER_LINEAR), np.uint8
        )
    size = (pinhole.width_px, pinhole.height_px)
    map_x, map_y = cv2.initUndistortRectifyMap(
        camera.matrix, np.array(camera.distortion), np.eye(3), pinhole.matrix, size, cv2.CV_32FC1
    )
    return np.asarray(cv2.remap(mask, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT), np.uint8)


def write_masks(
    masks: Mapping[str, Path], original: SparseModel, undistorted: SparseModel, folder: Path, check: Callable[[], None]
) -> None:
    """Write the undistorted mask of every photo of the model that has one, as ``<file>.png``.

    Raises:
        ValueError: a mask cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cameras = {photo.name: photo.camera for photo in original.images}
    for photo in undistorted.images:
        if photo.name not in masks:
            continue
        check()
        mask = decode_picture(masks[photo.name].read_bytes(), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise ValueError(f"the mask of {photo.name} cannot be read")
        undistorted_mask = undistort_mask(np.asarray(mask, np.uint8), cameras[photo.name], photo.camera)
        cv2.imwrite(str(folder / f"{photo.name}.png"), undistorted_mask)


def write_points(model: SparseModel, folder: Path) -> None:
    """Write ``points.npz``, and the same points as the PLY from which nerfstudio initialises splats."""
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
    layout: Mapping[str, Any],
    names: Mapping[str, str],
    *,
    images: Path,
    masks: Path,
    points: Path,
    found: FoundObject | None,
    check: Callable[[], None],
) -> None:
    """Write ``dataset.zip``; without ``found``, masks tell what the object is."""

    def entries() -> Iterator[tuple[str, bytes | Path]]:
        yield "transforms.json", (json.dumps(layout, indent=1) + "\n").encode()
        if found is not None:
            yield OBJECT, found.model_dump_json(indent=1).encode()
        for name in ("points.npz", _POINTS):
            yield name, points / name
        for file, name in sorted(names.items(), key=lambda item: item[1]):
            check()
            yield f"images/{name}", images / file
            mask = masks / f"{file}.png"
            if mask.exists():
                yield f"masks/{Path(name).stem}.png", mask

    write_zip(target, entries())
