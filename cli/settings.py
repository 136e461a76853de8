"""Settings of the command from the environment; options on the command line take precedence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_PORT: Final = 8080
#: Prefixes of variables that name another bus or bucket; they must not reach the embedded services.
_FOREIGN: Final = ("NATS_", "S3_", "B2_", "R2_", "AWS_", "RCLONE_")
ROOT: Final = Path(__file__).parent.parent


class CommandSettings(BaseSettings):
    """Address and API key of the server, and the data folder of an embedded system."""

    model_config = SettingsConfigDict(env_prefix="SACCADE_", frozen=True)

    #: Server that the commands ask.
    url: str = f"http://127.0.0.1:{DEFAULT_PORT}"
    #: Address of an embedded system from the internet, through your tunnel or proxy.
    public_url: str = ""
    #: API key of the commands.
    api_key: SecretStr | None = None
    #: Folder of an embedded system.
    data: Path = Path(".saccade")
    #: State of interrupted uploads, which resume from it.
    uploads_dir: Path = Path.home() / ".cache" / "saccade" / "uploads"
    api_keys_file: Path | None = None
    allowed_hosts: str = ""


class DesktopSettings(BaseSettings):
    """Desktop of the user, by the variables that desktops and terminals set; ``BROWSER`` names a command."""

    model_config = SettingsConfigDict(frozen=True)

    display: str = ""
    wayland_display: str = ""
    browser: str = ""


class ModalClientSettings(BaseSettings):
    """Server of Modal's own client; empty for Modal itself."""

    model_config = SettingsConfigDict(env_prefix="MODAL_", frozen=True)

    server_url: str = ""


def child_environment() -> dict[str, str]:
    """Return the environment of a child process: ours without other buses' and buckets' settings and the API key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}  # noqa: TID251
    kept.pop("SACCADE_API_KEY", None)
    if "SACCADE_API_KEYS_FILE" in kept:
        kept["SACCADE_API_KEYS_FILE"] = str(Path(kept["SACCADE_API_KEYS_FILE"]).absolute())
    # Find our modules from any folder, and never a folder named `services` in the current one.
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH", ""))))
    kept["PYTHONSAFEPATH"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    return kept
