"""Export of a session's telemetry as an MCAP file for Foxglove.

A message's log time is when it was captured, by the server's clock; its publish time is when the server stored it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from mcap.writer import CompressionType, Writer
from saccade_client import Client, Recorded, SessionView

from cli.failure import Failure
from cli.progress_bar import ProgressCallback, format_size
from cli.sessions.mcap_schemas import COUNTS, JOINTS, NATIVE_JOINTS, PICTURE, VERDICT
from contracts.events.session import SessionFrameAcked
from contracts.telemetry import JointBatch, JointSample
from modal_workers.runtime.sessions.clock_offsets import ClockOffsets
from modal_workers.runtime.sessions.frame import read_frame

_BILLION: Final = 1_000_000_000
#: MCAP stores times in 64 bits; a sender may write any number.
_LATEST_NS: Final = (1 << 63) - 1
_LARGEST_SEQUENCE: Final = (1 << 32) - 1
#: Newest samples of which it is known whether they come again: a robot sends fewer again after a disconnect.
_REMEMBERED_SAMPLES: Final = 1 << 17
#: Default source of joints; it has the topic without a suffix.
_ARM: Final = "arm"
_MAGIC: Final = {b"\xff\xd8\xff": "jpeg", b"\x89PNG": "png", b"RIFF": "webp"}


@dataclass
class ExportSummary:
    """Counts of what an export wrote."""

    frames: int = 0
    #: Frames that the gateway refused; only their verdict was kept.
    refused: int = 0
    joint_samples: int = 0
    verdicts: int = 0
    #: Frames that had expired before this export.
    frames_missing: int = 0
    #: Messages that could not be read.
    unreadable: int = 0
    topics: list[str] = field(default_factory=list)


class McapSessionFile:
    """MCAP file of one session, written message by message."""

    def __init__(self, stream: IO[bytes], session: SessionView, frames_missing: int = 0) -> None:
        """Write the header and the session's metadata."""
        self.exported = ExportSummary(frames_missing=frames_missing)
        self._clocks = ClockOffsets()
        self._samples: OrderedDict[tuple[str, int, float], None] = OrderedDict()
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._mcap = Writer(stream, compression=CompressionType.ZSTD)
        self._mcap.start(library="saccade")
        metadata = {
            "id": session.id,
            "workload": session.workload,
            "state": session.state,
            "params": json.dumps(session.params),
            "metadata": json.dumps(session.metadata),
            "created_at": session.created_at,
            "frames_missing": str(frames_missing),
        }
        self._mcap.add_metadata("saccade.session", metadata)

    def add(self, recorded: Recorded) -> None:
        """Write a message to its topic; unreadable messages are counted and skipped."""
        adders = {"frames": self._add_frame, "joints": self._add_joints, "acks": self._add_verdicts}
        try:
            if adder := adders.get(recorded.kind):
                adder(recorded)
        except (ValueError, KeyError):  # a holder of the session's credentials may have sent anything
            self.exported.unreadable += 1

    def finish(self) -> ExportSummary:
        """Write the index and return the counts."""
        self._mcap.finish()  # type: ignore[no-untyped-call]
        self.exported.topics = sorted(self._channels)
        return self.exported

    def _add_frame(self, recorded: Recorded) -> None:
        stored_at_s = recorded.stored_at_ns / _BILLION
        frame = read_frame(recorded.headers, recorded.body, sequence=recorded.sequence, arrived_at_s=stored_at_s)
        source = f"frames {frame.source}"
        self._clocks.observe(source, captured_at_s=frame.sent_at_s, arrived_at_s=stored_at_s, stated=frame.clock)
        if frame.refusal_reason is not None:
            self.exported.refused += 1
            return
        offset_s = self._clocks.offset_s(source)
        message = {
            "frame_id": frame.source,
            "data": base64.b64encode(frame.image).decode(),
            "format": _format(recorded.headers.get("Content-Type", ""), frame.image),
            **_sent(frame.seq, frame.sent_at_s, offset_s),
        }
        at_ns = _at_ns(frame.sent_at_s + offset_s, recorded.stored_at_ns)
        self._write(
            f"/camera/{frame.source}", PICTURE, message, at_ns=at_ns, stored_ns=recorded.stored_at_ns, seq=frame.seq
        )
        self.exported.frames += 1

    def _add_joints(self, recorded: Recorded) -> None:
        batch = JointBatch.model_validate_json(recorded.body)
        source, stored_ns = f"joints {batch.source}", recorded.stored_at_ns
        newest_s = max(sample.captured_at_s for sample in batch.samples)
        self._clocks.observe(
            source, captured_at_s=newest_s, arrived_at_s=stored_ns / _BILLION, stated=batch.clock
        )  # fmt: skip
        offset_s = self._clocks.offset_s(source)
        place = "" if batch.source == _ARM else f"/{batch.source}"
        for sample in batch.samples:
            if not self._is_new(batch.source, sample):
                continue
            sent = _sent(sample.seq, sample.captured_at_s, offset_s)
            at_ns = _at_ns(sample.captured_at_s + offset_s, stored_ns)
            place_in_time = {"at_ns": at_ns, "stored_ns": stored_ns, "seq": sample.seq}
            native = sample.raw
            if batch.unit == "native":
                native = sample.positions if native is None else native
            else:
                joints = [
                    {"name": name, "position": value} for name, value in zip(batch.names, sample.positions, strict=True)
                ]
                self._write(f"/joints{place}", JOINTS, {"joints": joints, **sent}, **place_in_time)
            if native is not None:
                values = {"names": batch.names, "values": native, **sent}
                self._write(f"/joints_native{place}", NATIVE_JOINTS, values, **place_in_time)
            self.exported.joint_samples += 1

    def _is_new(self, source: str, sample: JointSample) -> bool:
        """Return whether a sample did not come before: a robot sends again what may not have arrived.

        The number alone does not tell: a sender may count from 0 whenever it starts.
        """
        key = (source, sample.seq, sample.captured_at_s)
        if key in self._samples:
            return False
        self._samples[key] = None
        if len(self._samples) > _REMEMBERED_SAMPLES:
            self._samples.popitem(last=False)
        return True

    def _add_verdicts(self, recorded: Recorded) -> None:
        acked, at_ns = SessionFrameAcked.model_validate_json(recorded.body), recorded.stored_at_ns
        for ack in acked.acks:
            fields = ack.model_dump(exclude_none=True) | {"run_id": acked.run_id}
            self._write("/verdicts", VERDICT, fields, at_ns=at_ns, stored_ns=at_ns, seq=ack.seq)
        counts = acked.totals.model_dump(exclude_none=True) | {"reset": acked.reset, "run_id": acked.run_id}
        if acked.last_idle_steps is not None:
            counts["last_idle_steps"] = acked.last_idle_steps
        self._write("/counts", COUNTS, counts, at_ns=at_ns, stored_ns=at_ns)
        self.exported.verdicts += len(acked.acks)

    def _write(
        self, topic: str, schema: dict[str, Any], message: dict[str, Any], *, at_ns: int, stored_ns: int, seq: int = 0
    ) -> None:
        if topic not in self._channels:
            name = str(schema["title"])
            if name not in self._schemas:
                self._schemas[name] = self._mcap.register_schema(name, "jsonschema", json.dumps(schema).encode())
            self._channels[topic] = self._mcap.register_channel(topic, "json", self._schemas[name])
        timestamp = {"sec": at_ns // _BILLION, "nsec": at_ns % _BILLION}
        self._mcap.add_message(
            self._channels[topic],
            log_time=at_ns,
            data=json.dumps({"timestamp": timestamp} | message, separators=(",", ":")).encode(),
            publish_time=stored_ns,
            sequence=seq if 0 <= seq <= _LARGEST_SEQUENCE else 0,
        )


def export_session(client: Client, session_id: str, path: Path, update: ProgressCallback) -> ExportSummary:
    """Write a session's record to a file, which gets its name when it is complete.

    Raises:
        ClientError: there is no such session, or its telemetry has expired.
        Failure: the path is a folder.
        OSError: the file cannot be written.
    """
    if path.is_dir():
        raise Failure(f"{path} is a folder.", code="no_such_file", hint="Name the file to write: session.mcap")
    session = client.sessions.get(session_id)
    record = client.sessions.record(session_id)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:16]}.part")
    try:
        with contextlib.closing(record):
            kept = record.size()
            messages = max(1, kept.joints + kept.frames + kept.acks)
            with partial.open("wb") as stream:
                file = McapSessionFile(stream, session, kept.frames_missing)
                for number, recorded in enumerate(record, 1):
                    file.add(recorded)
                    update(min(1.0, number / messages), format_size(stream.tell()))
                exported = file.finish()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return exported


def _sent(seq: int, captured_at_s: float, offset_s: float) -> dict[str, Any]:
    return {"seq": seq, "captured_at_s": captured_at_s, "clock_offset_s": offset_s}


def _at_ns(seconds: float, stored_ns: int) -> int:
    """Return a time in nanoseconds, or the time of storing if it does not fit into 64 bits."""
    whole, part = divmod(seconds, 1.0)  # a product of them both would round to hundreds of nanoseconds
    nanoseconds = int(whole) * _BILLION + round(part * _BILLION)
    return nanoseconds if 0 <= nanoseconds <= _LATEST_NS else stored_ns


def _format(content_type: str, picture: bytes) -> str:
    """Return a picture's format by Foxglove's names."""
    if content_type.startswith("image/"):
        return content_type.removeprefix("image/").partition(";")[0].replace("jpg", "jpeg")
    return next((name for magic, name in _MAGIC.items() if picture.startswith(magic)), "unknown")
