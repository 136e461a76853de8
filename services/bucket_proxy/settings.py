"""Settings of the bucket proxy."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class BucketProxySettings(BaseSettings):
    """Its own address and that of the S3 server."""

    model_config = SettingsConfigDict(env_prefix="BUCKET_PROXY_", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=9000, ge=1, le=65535)
    upstream_url: str = Field(pattern=r"^https?://")
    log_level: str = "INFO"
