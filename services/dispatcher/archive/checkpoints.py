"""Checkpoints of the archive: records ``archive.segment_stored`` in the audit log say what was written and verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.audit import SYSTEM, Act, Attribution, AuditRecord, audit_subject
from contracts.ids import new_id
from kit.bus.audit_log import AuditLog
from kit.history.manifest import SegmentManifest
from kit.history.segment_store import StoredSegment

NOUN: Final = "archive"
_VERB: Final = "segment"
REQUESTED: Final = f"{_VERB}_requested"
STORED: Final = f"{_VERB}_stored"
#: Outcome of a segment that was written anew and is not the last of its epoch: the writer does not go on after it.
REWRITTEN: Final = f"{_VERB}_rewritten"
SUPERSEDED: Final = f"{_VERB}_superseded"
_BY: Final = "dispatcher"
_WHY: Final = "archive of events"


class SegmentRecord(BaseModel):
    """Details of a record: which segment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    first: int
    last: int
    events: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ArchiveCheckpoint:
    """Newest segment of an epoch that was stored and verified."""

    first: int
    last: int
    sha256: str


def as_checkpoint(record: AuditRecord) -> ArchiveCheckpoint | None:
    """Return the checkpoint that a record is; None if it is none that this program wrote."""
    try:
        details = SegmentRecord.model_validate(record.data.details)
    except ValidationError:
        return None
    return ArchiveCheckpoint(details.first, details.last, details.sha256)


class Checkpoints:
    """Reads and writes the records of the archive."""

    def __init__(self, audit: AuditLog) -> None:
        """Use the audit log."""
        self._audit = audit

    async def newest(self, epochs: Sequence[str]) -> dict[str, ArchiveCheckpoint]:
        """Return the newest checkpoint of each epoch that has one.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        wanted = set(epochs)
        records = await self._audit.newest_of_each(audit_subject(SYSTEM, NOUN, "*", STORED))
        found = {record.subject_id: as_checkpoint(record) for record in records if record.subject_id in wanted}
        return {epoch: checkpoint for epoch, checkpoint in found.items() if checkpoint is not None}

    async def request(self, stored: StoredSegment, manifest: SegmentManifest, size_bytes: int) -> AuditRecord:
        """Record that a segment will be written, unless a process that was killed has recorded it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        details = SegmentRecord(
            key=stored.key,
            first=stored.first,
            last=stored.last,
            events=manifest.events,
            bytes=size_bytes,
            sha256=manifest.sha256,
        ).model_dump()
        if (intent := await self._open_intent(manifest.epoch)) is not None:
            if _same(intent.data.details, details):
                return intent
            await self._audit.outcome(intent, SUPERSEDED, {"meaning": "Another range was archived in its place."})
        attribution = Attribution(by=_BY, by_verified=True, why=_WHY, request_id=new_id("req"))
        return await self._audit.intent(Act(SYSTEM, NOUN, manifest.epoch, details), REQUESTED, attribution)

    async def stored(self, intent: AuditRecord) -> None:
        """Record that a segment was written, read back and compared.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._audit.outcome(intent, STORED, intent.data.details)

    async def rewritten(self, intent: AuditRecord) -> None:
        """Record that a segment before the last one of its epoch was written anew: that is no checkpoint.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._audit.outcome(intent, REWRITTEN, intent.data.details)

    async def _open_intent(self, epoch: str) -> AuditRecord | None:
        """Return the newest intent of an epoch, if it has no outcome."""
        records = await self._audit.newest_of_each(audit_subject(SYSTEM, NOUN, epoch, "*"))
        if not records or records[-1].verb != REQUESTED:
            return None
        return records[-1]


def _same(details: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two records are about the same segment: bytes may differ by the version of zstd."""
    return all(details.get(name) == other[name] for name in ("key", "sha256"))
