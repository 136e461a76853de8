"""Events of erasures, of the tenant ``_system``: clients get none of them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.events.base import EventData


class ErasureCompleted(EventData):
    """The streams, the bucket and the archive hold nothing of it any more; views drop their rows when they fold it."""

    type: ClassVar[str] = "erasure.completed"

    scope: Literal["tenant", "job", "upload"]
    #: Hash of the tenant's name.
    tenant_sha256: str
    #: What was stored after this sequence and time is new, and stays.
    until_sequence: int = Field(ge=0)
    until_time: AwareDatetime
    #: Hashes of the ids of jobs, with those of their stages; for a tenant, none: all of its rows are dropped.
    jobs_sha256: list[str] = Field(default_factory=list)
    #: Hash of the id of the upload.
    upload_sha256: str | None = None
