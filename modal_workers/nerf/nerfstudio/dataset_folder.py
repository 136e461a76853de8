"""Dataset folder of nerfstudio: the photos with the object mask as alpha."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.nerf.params import NerfParams


def write_folder(dataset: Path, folder: Path, params: NerfParams) -> int:
    """Unpack ``dataset.zip``; return how many photos have a mask.

    A masked photo becomes an RGBA PNG: nerfstudio blends the background colour into transparent pixels, so that alpha
    is learned. A ``mask_path`` would only exclude those pixels.

    Raises:
        SaccadeError: INVALID_PARAMETER, masks were requested and there are none; INTERNAL, the dataset is damaged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    try:
        with zipfile.ZipFile(dataset) as archive:
            transforms = json.loads(archive.read("transforms.json"))
            frames = [_frame(archive, frame, folder, params) for frame in transforms["frames"]]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SaccadeError(ErrorCode.INTERNAL, f"The dataset of the poses stage cannot be read: {error}") from error
    masked = sum(frame["file_path"].endswith(".png") for frame in frames)
    if params.background == "masks" and masked < len(frames):
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"background is masks, but only {masked} of {len(frames)} photos have one.",
            hint="Send a mask for each photo, or leave background at auto.",
        )
    (folder / "transforms.json").write_text(json.dumps({**transforms, "frames": frames}), encoding="utf-8")
    return masked


def _frame(archive: zipfile.ZipFile, frame: dict[str, str], folder: Path, params: NerfParams) -> dict[str, str]:
    name = PurePosixPath(frame["file_path"]).name
    encoded = archive.read(frame["file_path"])
    kept = {key: value for key, value in frame.items() if key != "mask_path"}
    if params.background == "sphere" or not frame.get("mask_path"):
        (folder / "images" / name).write_bytes(encoded)
        return kept | {"file_path": f"images/{name}"}
    image = decode_picture(encoded, cv2.IMREAD_COLOR)
    mask = decode_picture(archive.read(frame["mask_path"]), cv2.IMREAD_GRAYSCALE)
    if image is None or mask is None or mask.shape != image.shape[:2]:
        raise ValueError(f"{name} and its mask do not match")
    name = f"{PurePosixPath(name).stem}.png"
    cv2.imwrite(str(folder / "images" / name), np.dstack([image, mask]))
    return kept | {"file_path": f"images/{name}"}
