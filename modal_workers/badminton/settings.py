"""Settings of the badminton worker: where its models are. The only place of this worker that reads the environment."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from modal_workers.badminton.spec import YOLO_SIZES

#: Weights in the Modal image, and their folder.
WEIGHTS_FILES: Final = tuple(f"yolo26{size}-pose.pt" for size in YOLO_SIZES)
WEIGHTS_FOLDER: Final = "/opt/saccade-badminton"


class BadmintonSettings(BaseSettings):
    """Models of the operator; none is part of Saccade."""

    model_config = SettingsConfigDict(env_prefix="BADMINTON_", frozen=True, env_ignore_empty=True)

    #: Folder with ``yolo26n-pose.pt`` and its other sizes; a TensorRT engine (``.engine``) beside one is preferred.
    weights_folder: Path = Path(WEIGHTS_FOLDER)
    #: YOLO pose model as an ONNX file.
    pose_onnx: Path | None = None
    #: TrackNet model as an ONNX file.
    shuttle_onnx: Path | None = None
    #: Multi-object tracker of ultralytics whose second association keeps uncertain detections of followed persons.
    yolo_tracker: str = Field(default="off", pattern=r"^(off|bytetrack|botsort)$")
    #: Long side of the pictures that the network sees.
    yolo_image_px: int = Field(default=960, ge=160, le=1920)


def keep_ultralytics_offline() -> None:
    """Set what keeps ultralytics from using the network and installing packages; call it before importing it.

    Without, 8.4.190 asks two DNS names for reachability at import, reports usage, and installs what it misses.
    """
    folder = Path(tempfile.gettempdir()) / "saccade-ultralytics"
    folder.mkdir(exist_ok=True)
    for name, value in {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "YOLO_VERBOSE": "0",
        "YOLO_CONFIG_DIR": str(folder),
        "ULTRALYTICS_SAFE_LOAD": "1",
    }.items():
        os.environ[name] = value  # noqa: TID251 - read by the library at import, in no other way
