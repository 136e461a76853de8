"""Where workers are looked for: the settings of the catalog."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict


class CatalogSettings(BaseSettings):
    """Packages with workers of one's own, beside ``modal_workers``."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    #: Importable packages, separated by commas; each holds ``<worker>/spec.py`` like ``modal_workers`` does.
    catalog: str = ""

    def packages(self) -> list[str]:
        """Give the packages to look in, ours first."""
        return ["modal_workers", *(name.strip() for name in self.catalog.split(",") if name.strip())]
