"""Where workers are looked for, and for what they are deployed: the settings that are read outside a run."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.gpu_ladder import Environment
from contracts.limits import SCRATCH_RETENTION_H


class CatalogSettings(BaseSettings):
    """Packages with workers of one's own, beside ``modal_workers``."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Importable packages, separated by commas; each holds ``<worker>/spec.py`` like ``modal_workers`` does.
    catalog: str = ""

    def packages(self) -> list[str]:
        """Give the packages to look in, ours first."""
        return ["modal_workers", *(name.strip() for name in self.catalog.split(",") if name.strip())]


class DeploymentSettings(BaseSettings):
    """For whom workers are deployed."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: ``development`` begins a ladder at T4, ``production`` at A10.
    environment: Environment = "development"
    #: Hours after which workers remove from their cache what nobody has wanted since; the replaced system's name.
    cache_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")
