"""Table of all streams: subjects, retention, duplicate window and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from contracts.limits import EVENT_BYTES, GIB, IDEMPOTENCY_S, KIB, MESSAGE_BYTES, MIB

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S


@dataclass(frozen=True)
class Stream:
    """One stream. Storage is always file, retention always limits (a work queue would hide rejected messages)."""

    name: str
    subjects: tuple[str, ...]
    #: 0 means no limit.
    max_age_s: int
    max_bytes: int
    max_message_bytes: int = MESSAGE_BYTES
    duplicate_window_s: int = 600
    max_per_subject: int = -1
    #: When the stream is full: "new" rejects new messages (no acknowledged one is lost), "old" deletes the oldest.
    discard: Literal["old", "new"] = "new"
    #: Prefix under which every stored message is republished, with its sequence in a header.
    republish: str | None = None
    #: The server acknowledges a message before it is written: a kill loses those of the last milliseconds (up to 68
    #: observed, nats-server 2.15), and their sequences are assigned again.
    persist_async: bool = False
    allow_message_ttl: bool = False
    allow_direct: bool = True
    #: The server refuses to delete single messages, and to purge; neither can be lifted by an update of the stream.
    append_only: bool = False
    #: Positions in it are kept outside: by clients as cursors, by services in files. Its metadata holds its epochs.
    has_lineage: bool = False
    #: A backup has it. Without: what is only of use for hours, or while the process runs that wrote it.
    in_backup: bool = True


EVENTS: Final = Stream(
    name="EVENTS",
    subjects=("saccade.evt.>",),
    max_age_s=90 * _DAY_S,
    max_bytes=16 * GIB,
    max_message_bytes=EVENT_BYTES,
    republish="live",
    has_lineage=True,
)
PROGRESS: Final = Stream(
    name="PROGRESS",
    in_backup=False,
    subjects=("saccade.prog.>",),
    max_age_s=48 * _HOUR_S,
    max_bytes=1 * GIB,
    max_message_bytes=64 * KIB,
    max_per_subject=1,
    discard="old",
    republish="live",
    persist_async=True,
)
#: Telemetry of robots and cameras, and the verdict on each frame: enough to replay a session with the same timing.
TELEMETRY: Final = Stream(
    name="TELEMETRY",
    in_backup=False,
    subjects=("saccade.tele.*.session.*.joints", "saccade.tele.*.session.*.frames", "saccade.tele.*.session.*.acks"),
    max_age_s=6 * _HOUR_S,
    max_bytes=8 * GIB,
    discard="old",
)
DEADLETTERS: Final = Stream(
    name="DEADLETTERS", subjects=("saccade.dlq.>",), max_age_s=90 * _DAY_S, max_bytes=2 * GIB, discard="old"
)
#: One message per lease; it expires unless its holder renews it.
LEASES: Final = Stream(
    name="LEASES",
    in_backup=False,
    subjects=("saccade.lease.>",),
    max_age_s=1 * _HOUR_S,
    max_bytes=16 * MIB,
    max_per_subject=1,
    discard="old",
    allow_message_ttl=True,
)
#: One message per Idempotency-Key: the hash of the body and the id that the first request created.
IDEMPOTENCY: Final = Stream(
    name="IDEMPOTENCY",
    subjects=("saccade.idem.>",),
    max_age_s=IDEMPOTENCY_S,
    max_bytes=1 * GIB,
    max_message_bytes=4 * KIB,
    max_per_subject=1,
    discard="new",
)
#: One message per file that is being fetched from a URL, and per job that waits for such files: the whole URLs, which
#: may hold secrets, are nowhere else. Deleted when the fetch has ended.
FETCHES: Final = Stream(
    name="FETCHES",
    subjects=("saccade.fetch.>",),
    max_age_s=25 * _HOUR_S,
    max_bytes=256 * MIB,
    max_per_subject=1,
    discard="new",
)
#: One message per upload rule and day: how many jobs the rule has submitted, and which of them may not be stored yet.
#: Older than a week, a message is of no use: the dispatcher reads no upload that late.
RULE_COUNTS: Final = Stream(
    name="RULECOUNTS",
    subjects=("saccade.cnt.>",),
    max_age_s=7 * _DAY_S,
    max_bytes=256 * MIB,
    max_message_bytes=256 * KIB,
    max_per_subject=1,
    discard="new",
)
#: One message per webhook endpoint, with encrypted secrets. The sender's position is in POSITIONS.
WEBHOOKS: Final = Stream(
    name="WEBHOOKS",
    subjects=("saccade.whk.>",),
    max_age_s=0,
    max_bytes=1 * GIB,
    max_per_subject=1,
    discard="new",
    republish="live",
    allow_message_ttl=True,
)
#: Positions in other streams up to which a service has done its work: one message each, apart from what fills up.
POSITIONS: Final = Stream(
    name="POSITIONS",
    subjects=("saccade.pos.>",),
    max_age_s=0,
    max_bytes=16 * MIB,
    max_message_bytes=4 * KIB,
    max_per_subject=1,
    discard="new",
)
#: One message per attempt to deliver a webhook.
DELIVERIES: Final = Stream(
    name="DELIVERIES",
    subjects=("saccade.dlv.>",),
    max_age_s=30 * _DAY_S,
    max_bytes=4 * GIB,
    max_message_bytes=64 * KIB,
    discard="old",
    republish="live",
    has_lineage=True,
)

#: One message per video of a client of the replaced badminton system: where its results go, and what was delivered.
CALLBACKS: Final = Stream(
    name="CALLBACKS",
    subjects=("saccade.cbk.>",),
    max_age_s=30 * _DAY_S,
    max_bytes=1 * GIB,
    max_message_bytes=64 * KIB,
    max_per_subject=1,
    discard="new",
    republish="live",
)

#: One message per caption that a client of the replaced vision system uploads; the first one with an id is kept. A
#: tenant that uses its daily quota stores 480 MiB in 30 days; four such tenants fit.
CAPTIONS: Final = Stream(
    name="CAPTIONS",
    subjects=("saccade.cap.>",),
    max_age_s=30 * _DAY_S,
    max_bytes=2 * GIB,
    max_message_bytes=160 * KIB,
    discard="old",
)

#: One message per erasure that is not completed: it names what is erased, and is deleted with it.
ERASURES: Final = Stream(
    name="ERASURES",
    subjects=("saccade.ers.>",),
    max_age_s=0,
    max_bytes=64 * MIB,
    max_per_subject=1,
    discard="new",
)

#: Audit log: who had what done, and why (contracts/audit.py). No age limit; when it is full, it refuses, and so does
#: every command, because nothing is done that is not recorded.
OPS: Final = Stream(
    name="OPS",
    subjects=("saccade.ops.>",),
    max_age_s=0,
    max_bytes=4 * GIB,
    max_message_bytes=64 * KIB,
    discard="new",
    append_only=True,
)

#: Events that were replayed into a sandbox (contracts/sandbox.py): copies with marks, which nothing of Saccade reads.
#: The newest one of a replay is its checkpoint. When it is full, it refuses: a replay has no holes.
REPLAYS: Final = Stream(
    name="REPLAYS",
    in_backup=False,
    subjects=("saccade.rpl.>",),
    max_age_s=1 * _DAY_S,
    max_bytes=2 * GIB,
    discard="new",
)

STREAMS: Final = (
    EVENTS,
    PROGRESS,
    TELEMETRY,
    DEADLETTERS,
    LEASES,
    IDEMPOTENCY,
    FETCHES,
    RULE_COUNTS,
    WEBHOOKS,
    POSITIONS,
    DELIVERIES,
    CALLBACKS,
    CAPTIONS,
    ERASURES,
    OPS,
    REPLAYS,
)

#: Position in EVENTS up to which every webhook is planned and recorded: ``{"epoch", "sequence"}``.
WEBHOOKS_POSITION: Final = "saccade.pos.notifier.webhooks"

#: Subject of the lease of the dispatcher that leads; its ``backends`` are what the workers have installed.
DISPATCHER_LEASE: Final = "saccade.lease.dispatcher"

#: Live copies of every stored event, in the stream's order, with ``Nats-Sequence``.
LIVE_EVENTS: Final = "live.saccade.evt.>"
LIVE_PROGRESS: Final = "live.saccade.prog.>"
LIVE_WEBHOOKS: Final = "live.saccade.whk.>"
LIVE_DELIVERIES: Final = "live.saccade.dlv.>"
LIVE_CALLBACKS: Final = "live.saccade.cbk.>"


def aggregate(tenant: str, noun: str, subject_id: str) -> str:
    """Return the subject filter of all durable events of one aggregate, the unit of conditional publishing."""
    return f"saccade.evt.{tenant}.{noun}.{subject_id}.*"
