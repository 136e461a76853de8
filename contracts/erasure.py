"""Erasure of a tenant's data, or of one job or upload: the request, what it covers, and the report. Pure.

The audit log keeps hashes of what was erased. The request itself, which names it, is kept in the stream ERASURES until
the erasure has ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from contracts.audit import SYSTEM, Attribution, audit_subject

#: What an erasure covers: everything of a tenant, a job with its files, or an upload with its file.
Scope = Literal["tenant", "job", "upload"]
#: Noun of the records in the audit log, and of the event.
NOUN: Final = "erasure"
EVERY_REQUEST: Final = "saccade.ers.>"


class ErasureRequest(BaseModel):
    """Request for an erasure, as it is stored until the erasure has ended."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    scope: Scope
    tenant: str
    #: Id of the job or upload; None for a tenant.
    subject_id: str | None = None
    #: Jobs that are erased with an upload, because they used it.
    job_ids: tuple[str, ...] = ()
    requested_at: AwareDatetime
    by: Attribution
    #: What was removed so far, by store; a dispatcher that takes over goes on counting.
    removed: dict[str, int] = {}
    #: What was found in a store and was about to be deleted, by store: what of it is gone later counts as removed.
    found: dict[str, int] = {}
    #: Number of dispatchers that have worked on it.
    attempts: int = 0

    @property
    def details(self) -> dict[str, Any]:
        """Return what the audit log says of the request: hashes only."""
        found: dict[str, Any] = {"scope": self.scope, "tenant_sha256": sha256_of(self.tenant)}
        found["requested_at"] = self.requested_at.isoformat()
        if self.subject_id is not None:
            found["subject_sha256"] = sha256_of(self.subject_id)
        if self.job_ids:
            found["jobs_sha256"] = [sha256_of(job_id) for job_id in self.job_ids]
        return found


class StoreReport(BaseModel):
    """Removal from one store, and what a second look found there afterwards."""

    removed: int = Field(ge=0)
    remaining: int = Field(ge=0)


class ErasureReport(BaseModel):
    """Proof of an erasure: what was removed from each store, and what must remain, with the reason."""

    model_config = ConfigDict(extra="ignore")

    stores: dict[str, StoreReport]
    #: What is not erased, and why.
    remains: dict[str, str]
    #: Whether a dispatcher died, or lost its lease, in between; the numbers are what all attempts have removed.
    interrupted: bool = False


#: What an erasure does not remove.
REMAINS: Final[Mapping[str, str]] = {
    "audit_log": "Kept for good. Of an erasure it has hashes; other acts name the ids that they were about.",
    "idempotency": "Hashes of requests with an Idempotency-Key, and ids, for 24 hours.",
    "copies": "Exports, backups, downloads and what webhooks have sent are outside of this system.",
    "memory": "What running services hold in memory is dropped when they fold the event erasure.completed.",
}


def request_subject(erasure_id: str) -> str:
    """Return the subject of a request in the stream ERASURES."""
    return f"saccade.ers.{erasure_id}"


def records_of(erasure_id: str) -> str:
    """Return the filter of an erasure's records in the audit log."""
    return audit_subject(SYSTEM, NOUN, erasure_id, "*")


def sha256_of(text: str) -> str:
    """Return the hash by which an erased tenant, job or upload is known."""
    return hashlib.sha256(text.encode()).hexdigest()
