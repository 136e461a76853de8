"""The dataset as nerfstudio reads it: one folder, the object's mask as the photos' alpha."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import NerfParams


def write_folder(dataset: Path, folder: Path, params: NerfParams) -> int:
    """Unpack ``dataset.zip``; say how many photos have a mask.

    A masked photo becomes an RGBA PNG: nerfstudio blends the colour of the background into what is transparent, which
    is how alpha is learnt. A ``mask_path`` would only keep it from looking there.

    Raises:
        SaccadeError: INVALID_PARAMETER, masks were asked for and there are none; INTERNAL, the dataset is damaged.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    try:
        with zipfile.ZipFile(dataset) as archive:
            told = json.loads(archive.read("transforms.json"))
            frames = [_frame(archive, frame, folder, params) for frame in told["frames"]]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise SaccadeError(ErrorCode.INTERNAL, f"The dataset of the poses cannot be read: {error}") from error
    masked = sum(frame["file_path"].endswith(".png") for frame in frames)
    if params.background == "masks" and masked < len(frames):
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"background is masks, but only {masked} of {len(frames)} photos have one.",
            hint="Send a mask for each photo, or leave background at auto.",
        )
    (folder / "transforms.json").write_text(json.dumps({**told, "frames": frames}), encoding="utf-8")
    return masked


def _frame(archive: zipfile.ZipFile, frame: dict[str, str], folder: Path, params: NerfParams) -> dict[str, str]:
    name = PurePosixPath(frame["file_path"]).name
    encoded = archive.read(frame["file_path"])
    kept = {key: value for key, value in frame.items() if key != "mask_path"}
    if params.background == "sphere" or not frame.get("mask_path"):
        (folder / "images" / name).write_bytes(encoded)
        return kept | {"file_path": f"images/{name}"}
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    mask = cv2.imdecode(np.frombuffer(archive.read(frame["mask_path"]), np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None or mask is None or mask.shape != picture.shape[:2]:
        raise ValueError(f"{name} and its mask do not go together")
    name = f"{PurePosixPath(name).stem}.png"
    cv2.imwrite(str(folder / "images" / name), np.dstack([picture, mask]))
    return kept | {"file_path": f"images/{name}"}
