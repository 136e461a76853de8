"""Persons and skeletons by ultralytics' YOLO26 pose models.

ultralytics is under the AGPL-3.0 and optional (extra ``badminton-yolo``); NOTICE says what that means. Its weights are
the operator's: nothing is downloaded at run time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.players.persons import KEYPOINTS, Persons, Picture
from modal_workers.badminton.settings import BadmintonSettings, keep_ultralytics_offline

PACKAGE: Final = "ultralytics"
#: As the replaced system has them: the far player is small, and the court decides who plays.
MIN_CONFIDENCE: Final = 0.15
#: ByteTrack associates detections down to this confidence with persons that it follows.
TRACKED_MIN_CONFIDENCE: Final = 0.05
_TO_CENTRES: Final = np.array([0.5, 0.5, 0.0], np.float32)


class UltralyticsPoseBackend:
    """Detector of persons with a YOLO26 pose model."""

    has_skeletons = True

    def __init__(self, size: str, settings: BadmintonSettings) -> None:
        """Load ``yolo26<size>-pose`` from the folder of weights, on the GPU where there is one.

        Raises:
            SaccadeError: BACKEND_NOT_INSTALLED, MODEL_FILE_INVALID.
        """
        if not is_installed():
            raise SaccadeError(
                ErrorCode.BACKEND_NOT_INSTALLED,
                "pose=ultralytics needs the package ultralytics, which is not installed on this worker.",
                hint="Install the extra badminton-yolo (AGPL-3.0: see NOTICE), or use pose=motion.",
            )
        path = weights_file(size, settings)
        if path is None:
            name = f"yolo26{size}-pose.pt"
            raise SaccadeError(
                ErrorCode.MODEL_FILE_INVALID,
                f"The weights {name} are not in the folder of this worker.",
                hint=f"Put {name} into BADMINTON_WEIGHTS_FOLDER; nothing is downloaded at run time.",
            )
        keep_ultralytics_offline()
        import torch  # noqa: PLC0415 - seconds of import, and optional
        from ultralytics import YOLO  # noqa: PLC0415

        on_gpu = torch.cuda.is_available()
        self._arguments: dict[str, Any] = {
            "imgsz": settings.yolo_image_px,
            "device": 0 if on_gpu else "cpu",
            "half": on_gpu,
            "verbose": False,
            # YOLO26's head without non-maximum suppression: its published accuracy, and torchvision is not loaded.
            "nms": False,
        }
        self._tracker = "" if settings.yolo_tracker == "off" else f"{settings.yolo_tracker}.yaml"
        self._follows = False
        try:
            self._model: Any = YOLO(str(path), task="pose")
            if path.suffix == ".pt" and tuple(self._model.model.kpt_shape) != (len(KEYPOINTS), 3):
                raise ValueError(f"it finds {self._model.model.kpt_shape} keypoints, not (17, 3)")
        except Exception as error:  # ultralytics and torch raise whatever unpickling meets
            raise SaccadeError(
                ErrorCode.MODEL_FILE_INVALID,
                f"{path.name} is no pose model that ultralytics can load: {_first_line(error)}.",
                hint="Use a YOLO26 pose model with COCO's 17 keypoints, as ultralytics publishes or trains it.",
            ) from error
        self.name = f"ultralytics {path.stem}" + (f" with {settings.yolo_tracker}" if self._tracker else "")

    def restart(self) -> None:
        """Forget the persons that the tracker follows."""
        self._follows = False

    def detect(self, pictures: Sequence[Picture]) -> list[Persons]:
        """Return the persons in each picture; with a tracker those that it follows."""
        if not self._tracker:
            return [_persons(r) for r in self._model.predict(list(pictures), conf=MIN_CONFIDENCE, **self._arguments)]
        found = []
        for picture in pictures:  # one at a time: a batch restarts the tracker
            (result,) = self._model.track(
                picture, conf=TRACKED_MIN_CONFIDENCE, tracker=self._tracker, persist=self._follows, **self._arguments
            )
            self._follows = True
            found.append(_persons(result))
        return found


def is_installed() -> bool:
    """Return whether ultralytics can be imported."""
    return importlib.util.find_spec(PACKAGE) is not None


def weights_file(size: str, settings: BadmintonSettings) -> Path | None:
    """Return the file of a model: a TensorRT engine where there is one, else the weights; None if there is neither."""
    names = (f"yolo26{size}-pose.engine", f"yolo26{size}-pose.pt")
    return next((path for name in names if (path := settings.weights_folder / name).is_file()), None)


def _persons(result: Any) -> Persons:
    boxes, keypoints = result.boxes, result.keypoints
    count = len(boxes)
    # From the edges of pixels to centres, where (0, 0) is the first one's.
    joints = np.asarray(keypoints.data.float().cpu(), np.float32).reshape(count, len(KEYPOINTS), 3) - _TO_CENTRES
    return Persons(
        boxes_px=np.asarray(boxes.xyxy.float().cpu(), np.float32).reshape(count, 4) - np.float32(0.5),
        confidence=np.asarray(boxes.conf.float().cpu(), np.float32),
        keypoints_px=joints,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
