"""Manifest of a segment: its range, what is in it by tenant and type, and the hashes that show changes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

_TOKENS_OF_AN_EVENT: Final = 6
#: Bits of a frame's filter for each id in it, and bits that each id sets: 1 in 120 other ids seems to be in it.
_FILTER_BITS: Final = 10
_FILTER_HASHES: Final = 7

#: An id, and the two hashes of which its bits in a frame's filter are made.
HashedId = tuple[str, int, int]


class SegmentInvalid(Exception):  # noqa: N818 - says what is wrong with the segment, not with the program
    """A segment, or a frame of it, was cut off or changed; the message says which."""


class FrameSummary(BaseModel):
    """Summary of one frame: its range and what is in it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Sequences and times of its first and last event.
    first: int
    last: int
    events: int
    first_time: str
    last_time: str
    #: Hash of its lines.
    sha256: str
    #: Events by tenant and type.
    counts: dict[str, dict[str, int]]
    #: Bloom filter of the ids that its events are about, in base64.
    ids: str

    def may_hold(self, subject_id: str) -> bool:
        """Return whether the frame may hold an event about this id; False is certain."""
        return bool(self.held_of(hashed_ids([subject_id])))

    def held_of(self, hashed: Iterable[HashedId]) -> list[str]:
        """Return the ids of which the frame may hold an event; of the others it certainly holds none."""
        bits = base64.b64decode(self.ids)
        size = len(bits) * 8
        found: list[str] = []
        for subject_id, place, step in hashed:
            for number in range(_FILTER_HASHES):
                bit = (place + number * step) % size
                if not bits[bit >> 3] >> (bit & 7) & 1:
                    break
            else:
                found.append(subject_id)
        return found


class EpochFacts(BaseModel):
    """One epoch of the stream, as its lineage had it (kit/bus/lineage.py)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    first: int
    until: int | None


class ExportFacts(BaseModel):
    """Facts that only a file has that was exported."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Version of the program that wrote it.
    saccade: str
    #: Filters of subjects: events that match none were left out.
    subjects: tuple[str, ...]
    #: Names, addresses, metadata and free text were replaced by hashes.
    redacted: bool
    #: Epochs of the stream, the current one last.
    epochs: tuple[EpochFacts, ...]


class SegmentManifest(BaseModel):
    """Summary of a segment: its range, what is in it, and the hashes of its frames."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    stream: str
    epoch: str
    #: Every sequence from ``first`` to ``last`` is in the segment, or is not stored any more.
    first: int
    last: int
    events: int
    #: When the server stored the first and the last event; None without events.
    first_time: str | None
    last_time: str | None
    types: dict[str, int]
    tenants: dict[str, int]
    #: Hash of the segment before; empty for the first one.
    previous: str
    #: Sequences before it that the stream had deleted before they were archived.
    expired: tuple[int, int] | None = None
    frames: tuple[FrameSummary, ...]
    #: None: a segment of the archive.
    export: ExportFacts | None = None

    def encode(self) -> bytes:
        """Return the line of the manifest."""
        return _line({"manifest": self.model_dump(mode="json")})

    @property
    def sha256(self) -> str:
        """Hash of the segment: of its manifest, and by the frames' hashes of everything in it."""
        return hashlib.sha256(self.encode()).hexdigest()


def decode_manifest(raw: bytes) -> SegmentManifest:
    """Return the manifest of its line.

    Raises:
        SegmentInvalid: it is none, or was written by a version of this program that this one cannot read.
    """
    try:
        fields = json.loads(raw)["manifest"]
        if fields["version"] != 1:
            raise SegmentInvalid(f"it has version {fields['version']}, which a newer version of this program wrote")
        manifest = SegmentManifest.model_validate(fields)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise SegmentInvalid(f"the manifest cannot be read: {error}") from error
    if manifest.encode() != raw:
        raise SegmentInvalid("the manifest was changed")
    return manifest


def tenant_and_type(subject: str) -> tuple[str, str]:
    """Return tenant and type of an event by its subject: ``saccade.evt.<tenant>.<noun>.<id>.<past_tense>``.

    Of any other subject: no tenant, and the subject itself.
    """
    tokens = subject.split(".")
    return (tokens[2], f"{tokens[3]}.{tokens[5]}") if len(tokens) == _TOKENS_OF_AN_EVENT else ("", subject)


def subject_id_of(subject: str) -> str:
    """Return the id of what an event is about; the subject itself, if it is no event's."""
    tokens = subject.split(".")
    return tokens[4] if len(tokens) == _TOKENS_OF_AN_EVENT else subject


class SubjectCounts:
    """Counts of events by tenant and type."""

    def __init__(self) -> None:
        """Start at zero."""
        self.tenants: dict[str, dict[str, int]] = {}

    def count(self, subject: str) -> None:
        """Count one event."""
        tenant, name = tenant_and_type(subject)
        types = self.tenants.setdefault(tenant, {})
        types[name] = types.get(name, 0) + 1

    def add(self, counts: dict[str, dict[str, int]]) -> None:
        """Add other counts."""
        for tenant, types in counts.items():
            mine = self.tenants.setdefault(tenant, {})
            for name, number in types.items():
                mine[name] = mine.get(name, 0) + number

    def by_type(self) -> dict[str, int]:
        """Return the counts by type."""
        found: Counter[str] = Counter()
        for types in self.tenants.values():
            found.update(types)
        return dict(sorted(found.items()))

    def by_tenant(self) -> dict[str, int]:
        """Return the counts by tenant."""
        return {tenant: sum(types.values()) for tenant, types in sorted(self.tenants.items())}


def subject_filter(ids: Iterable[str]) -> str:
    """Return the filter of the ids of a frame, in base64."""
    distinct = set(ids)
    bits = bytearray(-(-len(distinct) * _FILTER_BITS // 8))
    for subject_id in distinct:
        for place in _places(subject_id, len(bits) * 8):
            bits[place >> 3] |= 1 << (place & 7)
    return base64.b64encode(bits).decode()


def hashed_ids(ids: Iterable[str]) -> list[HashedId]:
    """Return ids with the hashes by which frames are asked for them."""
    return [(subject_id, *_hashes(subject_id)) for subject_id in ids]


def _hashes(subject_id: str) -> tuple[int, int]:
    digest = hashlib.blake2b(subject_id.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:]) | 1


def _places(subject_id: str, bits: int) -> list[int]:
    first, step = _hashes(subject_id)
    return [(first + number * step) % bits for number in range(_FILTER_HASHES)]


def _line(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), sort_keys=True, ensure_ascii=True).encode() + b"\n"
