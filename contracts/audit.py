"""Records of the audit log (stream OPS), and the chain of hashes that shows whether one was changed or removed.

Each act of an operator has two records: the intent before it, and one outcome after it. Every record carries the hash
of the record before it, and is published on the condition that this one is the newest, so the chain has one line. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from contracts.events.base import Envelope, Message, decode_at_kind
from contracts.ids import new_id

#: Tenant of the records that concern the whole system; no tenant can have this name.
SYSTEM: Final = "_system"
#: Subject of the whole log: the condition of each publish.
EVERY_RECORD: Final = "saccade.ops.>"
_KIND: Final = "ops"
#: Hash before the first record.
GENESIS: Final = "0" * 64

Phase = Literal["intent", "outcome"]


class Attribution(BaseModel):
    """Operator that orders an act, and the reason."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Id of an API key, or user of NATS.
    by: str
    #: Whether the server has checked it; otherwise it is what the sender wrote.
    by_verified: bool = False
    why: str
    request_id: str


class AuditData(Attribution):
    """Data of a record."""

    phase: Phase
    #: Of an outcome: the id of its intent.
    intent: str | None = None
    #: What was asked, or what came of it.
    details: dict[str, Any] = {}
    #: Hash of the record before this one.
    previous: str


@dataclass(frozen=True)
class Act:
    """Act on one thing, with its tenant, noun and id, and the fields of the request."""

    tenant: str
    noun: str
    id: str
    details: dict[str, Any] = field(default_factory=dict)

    def subject(self, verb: str) -> str:
        """Return the subject of a record: ``saccade.ops.<tenant>.<noun>.<id>.<verb>``."""
        return audit_subject(self.tenant, self.noun, self.id, verb)


@dataclass(frozen=True)
class AuditRecord:
    """A stored record."""

    sequence: int
    id: str
    time: datetime
    source: str
    tenant: str
    noun: str
    #: Id of what the act concerns.
    subject_id: str
    verb: str
    data: AuditData
    #: Hash of this record, which the next one carries.
    hash: str

    @property
    def act(self) -> Act:
        """What the record is about."""
        return Act(self.tenant, self.noun, self.subject_id, self.data.details)


def audit_subject(tenant: str, noun: str, subject_id: str, verb: str) -> str:
    """Return the subject of a record, or with wildcards a filter of subjects."""
    return f"saccade.{_KIND}.{tenant}.{noun}.{subject_id}.{verb}"


def record_hash(subject: str, body: bytes) -> str:
    """Return the hash of a stored record: of its subject and its bytes."""
    return hashlib.sha256(subject.encode() + b"\n" + body).hexdigest()


def encode_record(act: Act, verb: str, data: AuditData, *, record_id: str, source: str, time: datetime) -> Message:
    """Encode a record as a CloudEvent."""
    envelope = Envelope(
        id=record_id,
        source=source,
        type=f"{act.noun}.{verb}",
        subject=act.id,
        time=time,
        tenant=act.tenant,
        data=data.model_dump(mode="json"),
    )
    return Message(act.subject(verb), record_id, envelope.model_dump_json(exclude_none=True).encode())


def decode_record(sequence: int, subject: str, body: bytes) -> AuditRecord:
    """Decode a stored record.

    Raises:
        ValueError: the bytes are not a record, or one of another subject.
    """
    envelope = decode_at_kind(_KIND, subject, body)
    noun, _, verb = envelope.type.partition(".")
    return AuditRecord(
        sequence=sequence,
        id=envelope.id,
        time=envelope.time,
        source=envelope.source,
        tenant=envelope.tenant,
        noun=noun,
        subject_id=envelope.subject,
        verb=verb,
        data=AuditData.model_validate(envelope.data),
        hash=record_hash(subject, body),
    )


def new_record_id() -> str:
    """Return the id of a new record."""
    return new_id("ops")


@dataclass(frozen=True)
class ChainFault:
    """A place where the chain is broken."""

    sequence: int
    problem: str
    #: Tenant of the record; None: it cannot be told whose records are concerned.
    tenant: str | None = None


class ChainVerifier:
    """Verifies the chain; records are added in the order of the stream, from its first one on."""

    def __init__(self) -> None:
        """Begin before the first record."""
        self.records = 0
        self.head_sequence = 0
        self.head_hash = GENESIS
        #: Records of each tenant, and the newest of them as ``<sequence>:<hash>``.
        self.records_of: Counter[str] = Counter()
        self.head_of: dict[str, str] = {}
        self.faults: list[ChainFault] = []
        #: Intents without an outcome, by id.
        self.open_intents: dict[str, AuditRecord] = {}
        self._ended: set[str] = set()

    def add(self, sequence: int, subject: str, body: bytes) -> AuditRecord | None:
        """Verify the next record; return it if it can be read."""
        if sequence != self.head_sequence + 1:
            missing = _span(self.head_sequence + 1, sequence - 1)
            self.faults.append(ChainFault(sequence, f"{missing} removed"))
        record = None
        try:
            record = decode_record(sequence, subject, body)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            problem = f"it cannot be read as a record of {subject}: {reason}"
            self.faults.append(ChainFault(sequence, problem, _tenant_in(subject)))
        else:
            if record.data.previous != self.head_hash:
                problem = "it does not carry the hash of the record before it: one of the two was changed"
                self.faults.append(ChainFault(sequence, problem))
            self._pair(record)
        self.records += 1
        self.head_sequence, self.head_hash = sequence, record_hash(subject, body)
        if tenant := _tenant_in(subject):
            self.records_of[tenant] += 1
            self.head_of[tenant] = f"{sequence}:{self.head_hash}"
        return record

    def _pair(self, record: AuditRecord) -> None:
        if record.data.phase == "intent":
            self.open_intents[record.id] = record
            return
        intent = record.data.intent or ""
        if self.open_intents.pop(intent, None):
            self._ended.add(intent)
        elif intent in self._ended:
            self.faults.append(ChainFault(record.sequence, f"it is a second outcome of {intent}", record.tenant))
        else:
            problem = f"its intent {intent or '(none)'} is not in the log"
            self.faults.append(ChainFault(record.sequence, problem, record.tenant))


def _tenant_in(subject: str) -> str | None:
    """Return the tenant in the subject of a record."""
    return next(iter(subject.split(".")[2:3]), None)


def _span(first: int, last: int) -> str:
    return f"record {first} was" if first == last else f"records {first} to {last} were"


def to_json(record: AuditRecord) -> dict[str, Any]:
    """Return a record as it is shown to programs."""
    data: dict[str, Any] = json.loads(record.data.model_dump_json())
    return {
        "sequence": record.sequence,
        "id": record.id,
        "time": record.time.isoformat().replace("+00:00", "Z"),
        "type": f"{record.noun}.{record.verb}",
        "tenant": record.tenant,
        "subject": record.subject_id,
        "source": record.source,
        "hash": record.hash,
    } | data
