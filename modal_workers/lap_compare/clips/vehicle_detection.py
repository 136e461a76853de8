"""Detection of vehicles ahead with a YOLO model from an ONNX file: laps in traffic cannot be compared fairly."""

from __future__ import annotations

import importlib.resources
import importlib.util
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.lap_compare.spec import YOLO_PACKAGE

Picture = NDArray[np.uint8]

INPUT_SIDE_PX: Final = 640
MIN_CONFIDENCE: Final = 0.35
#: COCO classes: bicycle, car, motorcycle, bus, truck.
VEHICLE_CLASSES: Final = (1, 2, 3, 5, 7)
MODEL_NAME: Final = "yolo26n.onnx"


class VehicleDetector:
    """YOLO26 without non-maximum suppression, through ``cv2.dnn``.

    The model is not shipped (its licence is AGPL-3.0). To use it, install a data package named ``saccade_yolo`` that
    contains ``yolo26n.onnx`` with output [1, 300, 6]: x0, y0, x1, y1, confidence, class.
    """

    def __init__(self) -> None:
        """Load the model.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED.
        """
        if importlib.util.find_spec(YOLO_PACKAGE) is None:
            text = f"detect=yolo needs the package {YOLO_PACKAGE} with {MODEL_NAME}, which is not installed."
            raise SaccadeError(ErrorCode.BACKEND_NOT_INSTALLED, text)
        source = importlib.resources.files(YOLO_PACKAGE) / MODEL_NAME
        with importlib.resources.as_file(source) as path:
            self._network = cv2.dnn.readNetFromONNX(str(path))

    def nearest(self, picture: Picture) -> float:
        """Return the height of the tallest vehicle in a BGR frame [H, W, 3] as a share of its height, or 0."""
        scale = INPUT_SIDE_PX / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        square = np.full((INPUT_SIDE_PX, INPUT_SIDE_PX, 3), 114, np.uint8)
        square[: small.shape[0], : small.shape[1]] = small
        self._network.setInput(cv2.dnn.blobFromImage(square, 1 / 255, swapRB=True))
        return tallest_vehicle(np.asarray(self._network.forward()), small.shape[0])


def tallest_vehicle(output: NDArray[np.float32], height_px: int) -> float:
    """Return the height of the tallest vehicle in a network's output [1, K, 6], as a share of ``height_px``."""
    rows = output.reshape(-1, output.shape[-1])
    vehicle = np.isin(np.round(rows[:, 5]).astype(int), VEHICLE_CLASSES) & (rows[:, 4] >= MIN_CONFIDENCE)
    heights = rows[vehicle, 3] - rows[vehicle, 1]
    return float(np.clip(heights.max(initial=0.0) / height_px, 0, 1))
