"""What one session of an embedded system left on bus and bucket, and what must be true of it whatever was killed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from contracts.events import Envelope, decode
from contracts.events.job import JobInterrupted, JobSucceeded
from contracts.events.session import FrameTotals, SessionFrameAcked
from contracts.job import Job, fold
from contracts.session import fold_stored, job_id_of_session, telemetry_subject
from contracts.telemetry import FRAME_SEQ, FRAME_SOURCE, FrameAck, JointBatch
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from modal_workers.runtime.sessions.telemetry_source import DirectTelemetrySource
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage, read_all
from tests.system.chaos import System

TENANT = "local"
Key = tuple[str, int]


@dataclass
class Record:
    """One session's telemetry, verdicts and events, as they are stored."""

    session_id: str
    frames: Counter[Key] = field(default_factory=Counter)
    words: dict[Key, str] = field(default_factory=dict)
    acks: list[FrameAck] = field(default_factory=list)
    told: list[FrameTotals] = field(default_factory=list)
    joints: list[int] = field(default_factory=list)
    of_session: list[Envelope] = field(default_factory=list)
    of_job: list[Envelope] = field(default_factory=list)
    job: Job | None = None

    def take(self, recorded: TelemetryMessage) -> None:
        if recorded.name == "acks":
            acked = SessionFrameAcked.model_validate_json(recorded.body)
            self.acks += acked.acks
            self.told.append(acked.totals)
        elif recorded.name == "joints":
            self.joints += [sample.seq for sample in JointBatch.model_validate_json(recorded.body).samples]
        else:
            key = recorded.headers[FRAME_SOURCE], int(recorded.headers[FRAME_SEQ])
            self.frames[key] += 1
            _, mark, words = recorded.body.rpartition(b"picture")
            self.words[key] = (mark + words).decode()

    @property
    def types(self) -> list[str]:
        return [envelope.type for envelope in self.of_session]

    @property
    def accepted(self) -> list[FrameAck]:
        return [ack for ack in self.acks if ack.status == "accepted"]


async def read_record(system: System, session_id: str) -> Record:
    """Read it from the streams themselves."""
    record = Record(session_id)
    client = await connect(system.nats(), "record")
    try:
        await read_all(DirectTelemetrySource(client, telemetry_subject(TENANT, session_id, "*")), record.take)
        store = EventStore(client)
        session = None
        async for stored in store.history(0, f"saccade.evt.{TENANT}.session.{session_id}.>"):
            record.of_session.append(decode(stored.body))
            session = fold_stored(session, stored.subject, stored.body, stored.sequence)
        async for stored in store.history(0, f"saccade.evt.{TENANT}.job.{job_id_of_session(session_id)}.>"):
            record.of_job.append(decode(stored.body))
            record.job = fold(record.job, record.of_job[-1], stored.sequence)
    finally:
        await client.close()
    return record


def check_verdicts(record: Record, context: str) -> None:
    """Each frame that is stored has exactly one verdict, and totals are the sum of them."""
    judged = Counter((ack.source, ack.seq) for ack in record.acks)
    assert judged == record.frames, f"{context}: {judged - record.frames} more, {record.frames - judged} less"
    counts = Counter(ack.status for ack in record.acks)
    last = record.told[-1]
    assert (last.accepted, last.dropped, last.rejected) == tuple(
        counts[status] for status in ("accepted", "dropped", "rejected")
    ), f"{context}: {last} of {counts}"
    assert (last.sent, last.waiting) == (sum(record.frames.values()), 0), f"{context}: {last}"
    for told in record.told:
        assert told.sent == told.accepted + told.dropped + told.rejected + told.waiting, f"{context}: {told}"


def check_chunk(record: Record, notes: list[dict[str, object]], context: str) -> None:
    """The model has everything that was accepted, in that order, once, made with the same joints and steps."""
    made = [(line["seq"], line["picture"], line["steps"], line["positions"]) for line in notes]
    said = [
        (ack.seq, record.words[ack.source, ack.seq], ack.steps, None if ack.positions is None else list(ack.positions))
        for ack in record.accepted
    ]
    assert made == said, f"{context}: made {made}, said {said}"


def check_events(record: Record, attempts: int, context: str) -> None:
    """Beginning and end are told once; each run of the worker ended once and was paid for once."""
    counts = Counter(record.types)
    for once in ("session.opened", "session.started", "session.stop_requested", "session.stopped"):
        assert counts[once] == 1, f"{context}: {once}: {record.types}"
    assert record.types[-1] == "session.stopped", f"{context}: {record.types}"
    assert counts["session.ready"] >= attempts, f"{context}: {record.types}"
    chunks = [e.data["chunk"] for e in record.of_session if e.type == "session.chunk_exported"]
    assert chunks == list(range(1, len(chunks) + 1)), f"{context}: chunks {chunks}"
    ends = [e.parsed() for e in record.of_job if e.type in ("job.interrupted", "job.succeeded")]
    runs = [end.run_id for end in ends if isinstance(end, (JobInterrupted, JobSucceeded))]
    assert len(runs) == len(set(runs)), f"{context}: a run ended twice: {[e.type for e in record.of_job]}"
    assert record.of_job[-1].type == "job.succeeded", f"{context}: {[e.type for e in record.of_job]}"
    job = record.job
    assert job is not None
    billed_s = sum(cost.seconds for cost in job.costs.values())
    wall_s = (record.of_job[-1].time - record.of_job[0].time).total_seconds()
    assert billed_s <= wall_s, f"{context}: {billed_s} s were billed of {wall_s} s"
