"""Poses from a YOLO pose network in an ONNX file: through onnxruntime where it is installed, else through OpenCV."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.players.persons import Persons, Picture
from modal_workers.badminton.players.pose_decoding import (
    CELL_VALUES,
    CHOSEN_VALUES,
    MIN_CONFIDENCE,
    decode,
    is_pose_output,
    letterbox,
    network_input,
)

#: A batch of the network, [n, 3, side, side], to its first output.
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_BATCH: Final = 16
_HINT: Final = (
    "Export a pose model with ultralytics (yolo export model=yolo26n-pose.pt format=onnx imgsz=640) and give the path"
    " of the file and the image size of the export; or choose pose: motion, which needs no file."
)


class OnnxPoseBackend:
    """Persons and skeletons by a pose network from a file."""

    has_skeletons = True

    def __init__(self, path: Path, image_size: int = 640, *, min_confidence: float = MIN_CONFIDENCE) -> None:
        """Load the network and run it once.

        Raises:
            SaccadeError: MODEL_FILE_INVALID, if there is no such file, or it is not a pose network for this size.
        """
        if not path.is_file():
            raise _refusal(f"There is no ONNX file {path.name} where the worker looks for the pose network.")
        self._side_px = image_size
        self._min_confidence = min_confidence
        try:
            runtime, self._network = _load(path)
            shape = self._network(np.zeros((1, 3, image_size, image_size), np.float32)).shape
        # Both runtimes raise classes of their own for a broken file and for a wrong size of the input.
        except Exception as error:
            detail = " ".join(str(error).split())[:300]
            raise _refusal(
                f"{path.name} does not run as a network of {image_size} x {image_size} px: {detail}"
            ) from error
        if not is_pose_output(shape):
            raise _refusal(
                f"{path.name} is not a pose network: its output has the shape {tuple(shape)}, and not"
                f" (1, 300, {CHOSEN_VALUES}) or (1, {CELL_VALUES}, cells)."
            )
        self._name = f"onnx {path.stem} ({runtime})"

    @property
    def name(self) -> str:
        """Name of the file and what runs it."""
        return self._name

    def restart(self) -> None:
        """Do nothing: each picture stands for itself."""

    def detect(self, pictures: Sequence[Picture]) -> list[Persons]:
        """Return the persons in each picture."""
        found: list[Persons] = []
        for first in range(0, len(pictures), _BATCH):
            placed = [letterbox(picture, self._side_px) for picture in pictures[first : first + _BATCH]]
            outputs = self._network(network_input([square for square, _ in placed]))
            found += [
                decode(output, placement, min_confidence=self._min_confidence)
                for output, (_, placement) in zip(outputs, placed, strict=True)
            ]
        return found


def _refusal(message: str) -> SaccadeError:
    return SaccadeError(ErrorCode.MODEL_FILE_INVALID, message, hint=_HINT)


def _load(path: Path) -> tuple[str, Network]:
    if importlib.util.find_spec("onnxruntime") is None:
        return "OpenCV", _opencv_network(path)
    return "onnxruntime", _onnxruntime_network(path)


def _opencv_network(path: Path) -> Network:
    network = cv2.dnn.readNetFromONNX(str(path))

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        # One picture at a time: an export has a fixed batch of one, unless it was asked for another.
        outputs = []
        for index in range(len(batch)):
            network.setInput(batch[index : index + 1])
            outputs.append(np.array(network.forward(), np.float32))
        return np.concatenate(outputs)

    return run


def _onnxruntime_network(path: Path) -> Network:
    runtime: Any = importlib.import_module("onnxruntime")
    available = runtime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    session = runtime.InferenceSession(str(path), providers=wanted)
    place = session.get_inputs()[0]
    whole_batch = not isinstance(place.shape[0], int)

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = [batch] if whole_batch else [batch[index : index + 1] for index in range(len(batch))]
        return np.concatenate([np.asarray(session.run(None, {place.name: part})[0]) for part in parts])

    return run
