"""What the command takes from the environment; options given on the command line win."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_PORT: Final = 8080
#: Settings of another system's bus and bucket that must not reach an embedded one's children.
_FOREIGN: Final = ("NATS_", "S3_", "B2_", "AWS_", "RCLONE_")
ROOT: Final = Path(__file__).parent.parent


class CommandSettings(BaseSettings):
    """Where the server is, how to be let in, and where an embedded system keeps its data."""

    model_config = SettingsConfigDict(env_prefix="SACCADE_", frozen=True)

    url: str = f"http://127.0.0.1:{DEFAULT_PORT}"
    #: How an embedded system is reached from the internet, by a tunnel or a proxy of one's own.
    public_url: str = ""
    api_key: SecretStr | None = None
    data: Path = Path(".saccade")
    #: Notes on uploads that were interrupted, so that they go on where they stopped.
    uploads_dir: Path = Path.home() / ".cache" / "saccade" / "uploads"
    api_keys_file: Path | None = None
    allowed_hosts: str = ""


class ModalClientSettings(BaseSettings):
    """Where Modal's own client finds its server; empty for Modal itself."""

    model_config = SettingsConfigDict(env_prefix="MODAL_", frozen=True)

    server_url: str = ""


def child_environment() -> dict[str, str]:
    """Copy our environment for a child process, without the settings of buses and buckets and without our key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}  # noqa: TID251
    kept.pop("SACCADE_API_KEY", None)
    if "SACCADE_API_KEYS_FILE" in kept:
        kept["SACCADE_API_KEYS_FILE"] = str(Path(kept["SACCADE_API_KEYS_FILE"]).absolute())
    # Our modules are found from any folder, and a folder named `services` in the current one is not mistaken for ours.
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    kept["PYTHONSAFEPATH"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
