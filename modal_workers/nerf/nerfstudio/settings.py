"""Location of nerfstudio on machines that have it: the only place of this pipeline that reads the environment."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from modal_workers.nerf.params import NERFSTUDIO_HOME


class NerfstudioSettings(BaseSettings):
    """Folders of nerfstudio, which has a Python environment of its own: its pins conflict with ours."""

    model_config = SettingsConfigDict(env_prefix="NERFSTUDIO_", frozen=True)

    #: Folder of the Python environment, with ``bin/python`` and ``bin/ns-train``.
    home: Path = Path(NERFSTUDIO_HOME)
    #: Work folder. Its configuration has absolute paths, so it is the same in both stages.
    work: Path = Path(tempfile.gettempdir()) / "saccade-nerfstudio"
