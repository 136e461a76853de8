"""Reads what a structure from motion found: COLMAP's text files, or poses as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cli.failure import Failure
from modal_workers.live_splat.calibration.lens import LensCalibration

Floats = NDArray[np.float64]

_FORM: Final = 'Give COLMAP\'s images.txt, or JSON: {"frames": {"0001.jpg": [16 numbers of camera_from_model]}}.'
#: COLMAP's camera models: which of its parameters is fx, fy, cx, cy, k1, k2, p1, p2.
_MODELS: Final[dict[str, tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2, 3),
    "RADIAL": (0, 0, 1, 2, 3, 4),
    "OPENCV": (0, 1, 2, 3, 4, 5, 6, 7),
}


def read_poses(path: Path) -> dict[str, Floats]:
    """Read ``camera_from_model`` [4, 4] by the pictures' names.

    Raises:
        Failure: the file is not there, or no poses can be read from it.
    """
    if not path.is_file():
        raise Failure(f"{path} does not exist.", code="no_such_file", hint=_FORM)
    try:
        text = path.read_text()
        return _of_json(text) if text.lstrip().startswith("{") else dict(_of_colmap(text))
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
    lines = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    hint = f"Run COLMAP with one camera of a model of these: {', '.join(_MODELS)}; or give --intrinsics."
    if len(lines) != 1 or len(lines[0]) < 5 or lines[0][1] not in _MODELS:
        what = f"{len(lines)} cameras" if len(lines) != 1 else f"a camera that is {' '.join(lines[0][1:2])}"
        raise Failure(f"{path} has {what}.", code="poses_invalid", hint=hint)
    model, width_px, height_px = lines[0][1], int(lines[0][2]), int(lines[0][3])
    numbers = [float(one) for one in lines[0][4:]]
    fx_px, fy_px, cx_px, cy_px, *bent = (numbers[place] for place in _MODELS[model])
    # COLMAP counts pixels from the first one's corner, OpenCV from its centre.
    matrix = np.array([[fx_px, 0.0, cx_px - 0.5], [0.0, fy_px, cy_px - 0.5], [0.0, 0.0, 1.0]])
    distortion = (*bent, 0.0) if len(bent) == 1 else tuple(bent)
    if len(distortion) == 2:
        distortion = (*distortion, 0.0, 0.0)
    return LensCalibration(width_px, height_px, matrix, distortion)


def _of_json(text: str) -> dict[str, Floats]:
    frames = json.loads(text)["frames"]
    return {str(name): np.array(values, np.float64).reshape(4, 4) for name, values in frames.items()}


def _of_colmap(text: str) -> Iterator[tuple[str, Floats]]:
    """Read pairs of lines: a picture's pose, and its points.

    Source: https://colmap.github.io/format.html, images.txt.
    """
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines[::2]:
        if not line.strip():
            continue
        _, *numbers, _, name = line.split(maxsplit=9)
        w, x, y, z, *shift = (float(one) for one in numbers)
        length = float(np.sqrt(w * w + x * x + y * y + z * z))
        w, x, y, z = w / length, x / length, y / length, z / length
        pose = np.eye(4)
        pose[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        pose[:3, 3] = shift
        yield name, pose
