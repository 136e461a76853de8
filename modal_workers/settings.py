"""Settings of the worker catalog and of deployments, read outside a run."""

from __future__ import annotations

from typing import Final

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.caller_account import MODAL_APP, MODAL_FUNCTION
from contracts.gpu_ladder import Environment
from contracts.limits import SCRATCH_RETENTION_H

_NAME: Final = f"[a-z0-9_]+={MODAL_APP}(/{MODAL_FUNCTION})?"
_NAMES: Final = rf"^({_NAME}( *, *{_NAME})*)?$"


class CatalogSettings(BaseSettings):
    """Packages that hold workers, in addition to ``modal_workers``."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Importable packages, separated by commas; each holds ``<worker>/spec.py`` like ``modal_workers`` does.
    catalog: str = ""

    def packages(self) -> list[str]:
        """Return all packages to search, ours first."""
        named = (name.strip() for name in self.catalog.split(","))
        return list(dict.fromkeys(["modal_workers", *filter(None, named)]))


class DeploymentSettings(BaseSettings):
    """Settings of deployed workers."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    #: GPU ladders start at T4 in ``development``, at A10 in ``production``.
    environment: Environment = "development"
    #: Hours after which workers remove from their cache what nobody has wanted since; the replaced system's name.
    cache_hours: float = Field(default=SCRATCH_RETENTION_H, gt=0, validation_alias="MODAL_VOLUME_CLEANUP_HOURS")
    #: Other names of apps and their functions at Modal: ``vision_stream=foresight-gemma3-vlm/Gemma3VLMSession,…``.
    names: str = Field(default="", pattern=_NAMES, validation_alias="MODAL_APP_NAMES")
    #: Workloads with a container that Modal keeps started for the next run, separated by commas.
    warm: str = Field(default="", pattern=r"^[a-z0-9_, ]*$", validation_alias="MODAL_WARM_WORKLOADS")

    def name_of(self, workload: str) -> tuple[str, str] | None:
        """Return the other names of a workload's app and its function; None without."""
        for entry in self.names.split(","):
            name, _, target = entry.strip().partition("=")
            if name == workload:
                app, _, function = target.partition("/")
                return app, function
        return None

    def is_warm(self, workload: str) -> bool:
        """Return whether Modal keeps a container of a workload started."""
        return workload in [name.strip() for name in self.warm.split(",")]
