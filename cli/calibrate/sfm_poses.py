"""Reads what a structure from motion found: COLMAP's text files, or poses as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cli.failure import Failure
from modal_workers.live_splat.calibration.lens import LensCalibration
from modal_workers.nerf.poses.colmap.model_files import CAMERA_MODELS, parse_cameras, parse_poses

Floats = NDArray[np.float64]

_FORM: Final = 'Give COLMAP\'s images.txt, or JSON: {"frames": {"0001.jpg": [16 numbers of camera_from_model]}}.'


def read_poses(path: Path) -> dict[str, Floats]:
    """Read ``camera_from_model`` [4, 4] by the pictures' names.

    Raises:
        Failure: the file is not there, or no poses can be read from it.
    """
    if not path.is_file():
        raise Failure(f"{path} does not exist.", code="no_such_file", hint=_FORM)
    try:
        text = path.read_text()
        return _of_json(text) if text.lstrip().startswith("{") else parse_poses(text)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise Failure(f"{path} holds no poses that can be read.", code="poses_invalid", hint=_FORM) from error


def read_lens(images: Path) -> LensCalibration | None:
    """Read the camera from COLMAP's ``cameras.txt`` beside ``images.txt``; None where there is none.

    Raises:
        Failure: there are several cameras, or the model is none that a session takes.
    """
    path = images.with_name("cameras.txt")
    if images.suffix != ".txt" or not path.is_file():
        return None
    hint = f"Run COLMAP with one camera of a model of these: {', '.join(CAMERA_MODELS)}; or give --intrinsics."
    try:
        cameras = list(parse_cameras(path.read_text()).values())
    except ValueError as error:
        raise Failure(f"{path} has {error}.", code="poses_invalid", hint=hint) from error
    if len(cameras) != 1:
        raise Failure(f"{path} has {len(cameras)} cameras.", code="poses_invalid", hint=hint)
    (camera,) = cameras
    distortion = () if "PINHOLE" in camera.model else camera.distortion
    return LensCalibration(camera.width_px, camera.height_px, camera.matrix, distortion)


def _of_json(text: str) -> dict[str, Floats]:
    frames = json.loads(text)["frames"]
    return {str(name): np.array(values, np.float64).reshape(4, 4) for name, values in frames.items()}
