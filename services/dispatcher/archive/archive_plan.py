"""Decides where the archive goes on, and how close it is to losing events. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from contracts.streams import Stream
from kit.bus.lineage import Lineage
from kit.history.archive_reader import own_ranges
from kit.history.stream_reader import StreamState
from services.dispatcher.archive.checkpoints import ArchiveCheckpoint


@dataclass(frozen=True)
class NextSegment:
    """Start of the next segment."""

    epoch: str
    first: int
    #: Last sequence that belongs to the epoch; None: it is the current one.
    until: int | None
    #: Hash of the segment before; empty for the first one.
    previous: str
    #: Sequences that the stream deleted before they were archived.
    expired: tuple[int, int] | None = None


def next_segment(lineage: Lineage, checkpoints: Mapping[str, ArchiveCheckpoint], first_in_stream: int) -> NextSegment:
    """Return where the archive goes on: in the first epoch that is not archived to its end.

    Events that the stream never had while there was an archive are not missed.
    """
    previous, archived = "", 0
    ranges = own_ranges(lineage)
    for own in ranges:
        checkpoint = checkpoints.get(own.epoch)
        last = own.first - 1
        if checkpoint is not None and checkpoint.last >= own.first:
            last = checkpoint.last if own.until is None else min(checkpoint.last, own.until)
            previous, archived = checkpoint.sha256, last
        end_expired = own.until is not None and own.until < first_in_stream
        if own.until is not None and (last >= own.until or end_expired):
            continue
        first = max(last + 1, first_in_stream)
        # From the end of what was archived, also of an older epoch.
        expired = (archived + 1, first - 1) if archived and first > archived + 1 else None
        return NextSegment(own.epoch, first, own.until, previous, expired)
    own = ranges[-1]
    return NextSegment(own.epoch, max(own.first, first_in_stream), own.until, previous)


@dataclass(frozen=True)
class ArchiveLag:
    """Distance of the archive from the end of the stream."""

    events: int = 0
    #: Age of the oldest event that is not archived.
    seconds: float = 0.0
    #: Share of the stream's retention that is used when its oldest event that is not archived is deleted: 1 is loss.
    retention_used: float = 0.0


def lag_of(state: StreamState, archived_until: int, oldest: timedelta | None, stream: Stream) -> ArchiveLag:
    """Return the lag; ``oldest`` is the age of the first event after ``archived_until``, None if there is none."""
    waiting = max(0, state.last - max(archived_until, state.first - 1))
    if not waiting or oldest is None:
        return ArchiveLag()
    by_age = oldest.total_seconds() / stream.max_age_s if stream.max_age_s else 0.0
    held = state.last - state.first + 1
    by_bytes = waiting / held * state.size_bytes / stream.max_bytes
    return ArchiveLag(waiting, max(0.0, oldest.total_seconds()), max(by_age, by_bytes))
