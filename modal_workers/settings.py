"""Settings of the worker catalog and of deployments, read outside a run."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.gpu_ladder import Environment
from contracts.limits import SCRATCH_RETENTION_H


class CatalogSettings(BaseSettings):
    """Packages that hold workers, in addition to ``modal_workers``."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Importable packages, separated by commas; each holds ``<worker>/spec.py`` like ``modal_workers`` does.
    catalog: str = ""

    def packages(self) -> list[str]:
        """Return all packages to search, ours first."""
        return ["modal_workers", *(name.strip() for name in self.catalog.split(",") if name.strip())]


class DeploymentSettings(BaseSettings):
    """Settings of deployed workers."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: GPU ladders start at T4 in ``development``, at A10 in ``production``.
    environment: Environment = "development"
    #: Hours after which workers remove from their cache what nobody has wanted since; the replaced system's name.
    cache_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")
