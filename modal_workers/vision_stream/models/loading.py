"""Choice of the backend of a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.model import WatchModel
from modal_workers.vision_stream.models.weights import OnProgress, find_weights

Backend = Literal["transformers", "vllm"]


def load_model(
    name: str,
    *,
    backend: Backend = "transformers",
    device: Literal["cpu", "cuda"] = "cpu",
    on_progress: OnProgress,
    weights_folder: Path | None = None,
    download: bool = False,
    token: str | None = None,
    context_tokens: int | None = None,
) -> WatchModel:
    """Load a model: ``tiny``, a folder's path, or a name on the hub, below ``weights_folder`` or in the hub's cache.

    Nothing is fetched from a network unless ``download`` is set; ``token`` gives access to gated models.

    Raises:
        SaccadeError: MODEL_FILE_INVALID, BACKEND_NOT_INSTALLED.
    """
    if backend == "vllm" and importlib.util.find_spec("vllm") is None:
        raise SaccadeError(
            ErrorCode.BACKEND_NOT_INSTALLED,
            "The backend vllm is not installed where this session runs.",
            hint="Send backend transformers, or install vllm on the worker (CUDA).",
        )
    folder = find_weights(
        name, weights_folder=weights_folder, may_download=download, token=token, on_progress=on_progress
    )
    # Imported here: each takes seconds, and a worker needs one of them.
    if backend == "vllm":
        from modal_workers.vision_stream.models.vllm_model import load_vllm_model  # noqa: PLC0415

        return load_vllm_model(name, folder, on_progress=on_progress, context_tokens=context_tokens)
    from modal_workers.vision_stream.models.transformers_model import load_transformers_model  # noqa: PLC0415

    return load_transformers_model(name, folder, device, on_progress=on_progress, context_tokens=context_tokens)
