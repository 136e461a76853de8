"""Settings of the vision stream: its models. The only place of this worker that reads the environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

#: The model that is part of Saccade, and the default one on a GPU.
TINY: Final = "tiny"
GEMMA: Final = "google/gemma-3-4b-it"


class VisionSettings(BaseSettings):
    """Models that may watch, read by the gateway and by the worker: set them alike for both."""

    model_config = SettingsConfigDict(env_prefix="VISION_", frozen=True, env_ignore_empty=True)

    #: Model of sessions that name none.
    model: str = TINY
    #: Models that sessions may name, separated by commas.
    models: str = f"{TINY},{GEMMA}"
    #: Folder with the weights of models by name, ``google/gemma-3-4b-it`` below it; downloaded ones are kept there.
    weights_folder: Path = Path("/weights/vision-stream")
    #: Whether weights that are missing may be downloaded when a session starts.
    download: bool = False
    #: Modal secret with ``HF_TOKEN``, with which the weights of gated models are downloaded into the image.
    hugging_face_secret: str = "huggingface-secret"  # noqa: S105 - its name
    #: Version of vllm in the image; empty: it is not installed.
    vllm_version: str = ""

    def allowed(self) -> frozenset[str]:
        """Return the models that sessions may name."""
        return frozenset({self.model, *(name.strip() for name in self.models.split(",") if name.strip())})

    def image(self) -> dict[str, Any]:
        """Return the arguments of the Modal image: it offers the same models, with their weights in it."""
        return {
            "models": sorted(name for name in self.allowed() if re.fullmatch(r"[\w.-]+/[\w.-]+", name)),
            "folder": str(self.weights_folder),
            "secret": self.hugging_face_secret,
            "vllm_version": self.vllm_version,
            "environment": {
                "VISION_MODEL": self.model,
                "VISION_MODELS": self.models,
                "VISION_WEIGHTS_FOLDER": str(self.weights_folder),
            },
        }


class HuggingFaceSettings(BaseSettings):
    """Access to gated models; read by the worker only."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, populate_by_name=True)

    #: Token of gated models; workers here do not inherit it, and those on Modal have the weights in their image.
    token: SecretStr | None = Field(default=None, validation_alias="HF_TOKEN")
