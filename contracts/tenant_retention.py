"""Retention of a tenant's results and uploads: entries of the keys file, and the defaults of a server. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from contracts.ids import TENANT_PATTERN
from contracts.quotas import ALL_TENANTS

#: Longest limit: a job that has ended is known for 90 days, and what is not known is not found.
MAX_RETENTION_H: Final = 24.0 * 85


class RetentionHours(BaseModel):
    """Hours for which files are kept; None: for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Results of a job, from its end on.
    results: float | None = Field(default=None, gt=0, le=MAX_RETENTION_H, allow_inf_nan=False)
    #: Uploads, from their creation on, while no job needs them.
    uploads: float | None = Field(default=None, gt=0, le=MAX_RETENTION_H, allow_inf_nan=False)


class TenantRetention(BaseModel):
    """Entry of the keys file with the limits of one tenant, or of ``*`` for all that have no entry of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(pattern=rf"{TENANT_PATTERN}|^\*$")
    retention_hours: RetentionHours


@dataclass(frozen=True)
class RetentionLimits:
    """Limits of all tenants."""

    by_tenant: Mapping[str, RetentionHours] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: list[TenantRetention]) -> RetentionLimits:
        """Return the limits that entries give; a later entry of a tenant replaces an earlier one."""
        return cls({entry.tenant: entry.retention_hours for entry in entries})

    def of_tenant(self, tenant: str, default: RetentionHours) -> RetentionHours:
        """Return the limits of a tenant: its own entry, else that of all, else the default of the server."""
        return self.by_tenant.get(tenant) or self.by_tenant.get(ALL_TENANTS) or default
