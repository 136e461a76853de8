"""Form of erasures in the HTTP API."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel

from contracts.erasure import ErasureReport, Scope


class ErasureObject(BaseModel):
    """An erasure: requested, or completed with its report."""

    id: str
    object: Literal["erasure"] = "erasure"
    scope: Scope
    state: Literal["requested", "completed"]
    requested_at: datetime
    completed_at: datetime | None = None
    #: Hash of the tenant's name, and of the id of the job or upload: what the audit log keeps of them.
    tenant_sha256: str
    subject_sha256: str | None = None
    report: ErasureReport | None = None
