"""Where nerfstudio stands on the machines that have it: the only place of this pipeline that reads the environment."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class NerfstudioSettings(BaseSettings):
    """nerfstudio in a Python environment of its own: its pins and ours do not agree."""

    model_config = SettingsConfigDict(env_prefix="NERFSTUDIO_", frozen=True)

    #: The environment's folder, with ``bin/python`` and ``bin/ns-train``.
    home: Path = Path("/opt/nerfstudio")
    #: Where it works. Its configuration names files by their full paths, so this is the same in both stages.
    work: Path = Path(tempfile.gettempdir()) / "saccade-nerfstudio"
