"""Loading of a session's model, told to its viewers."""

from __future__ import annotations

from pathlib import Path

import torch

from modal_workers.runtime.sessions.live_context import LiveContext
from modal_workers.vision_stream.loading_progress import LoadingProgress
from modal_workers.vision_stream.models.loading import load_model
from modal_workers.vision_stream.models.model import WatchModel
from modal_workers.vision_stream.settings import HuggingFaceSettings, VisionSettings
from modal_workers.vision_stream.spec import VisionStreamParams


def load(params: VisionStreamParams, context: LiveContext) -> WatchModel:
    """Return the session's model on this machine's device.

    Raises:
        EndedWhileLoading: the session has to end before.
        SaccadeError: MODEL_FILE_INVALID, BACKEND_NOT_INSTALLED.
    """
    settings, token = VisionSettings(), HuggingFaceSettings().token

    on_progress = LoadingProgress(params, context)
    on_progress("loading weights", 0.0)
    return load_model(
        params.model,
        backend=params.backend,
        device="cuda" if torch.cuda.is_available() else "cpu",
        on_progress=on_progress,
        weights_folder=_existing(settings.weights_folder, download=settings.download),
        download=settings.download,
        token=None if token is None else token.get_secret_value(),
    )


def _existing(folder: Path, *, download: bool) -> Path | None:
    """Return the operator's folder of weights; None where there is none, and none is to be made."""
    return folder if download or folder.is_dir() else None
