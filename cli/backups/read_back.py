"""Comparison of a restored stream with its backup, message by message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client

from cli.backups.backup_folder import BackupFolder, StreamBackup, chunks_of
from cli.failure import Failure
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.nats_archive import ArchivedMessage, nanoseconds
from kit.history.nats_archive_reader import ArchiveUnreadable, read_archive

_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
_TTL: Final = "Nats-TTL"


async def read_back(client: Client, backup: BackupFolder, stream: StreamBackup) -> None:
    """Check that a restored stream has every message of its backup, but those that have expired since.

    Raises:
        Failure: the first that is missing or differs.
        SaccadeError: BUS_UNAVAILABLE.
    """
    store = EventStore(client, stream.name)
    max_age_ns = int(stream.config.get("max_age", 0))
    held: list[StoredEvent] = []
    try:
        for message in read_archive(chunks_of(backup.file(stream.file.path))):
            while held and held[-1].sequence < message.sequence:
                held.pop()
            if not held:
                after = message.sequence - 1
                held, _ = await store.batch(after, size=_BATCH, size_bytes=_BATCH_BYTES, with_headers=True)
                held.reverse()
            found = held.pop() if held and held[-1].sequence == message.sequence else None
            if found is None and not _expired(message, max_age_ns):
                raise _differs(stream, message, "is missing")
            if found is not None and not _same(found, message):
                raise _differs(stream, message, "is another one")
    except ArchiveUnreadable as error:
        raise Failure(
            f"The backup of {stream.name} cannot be read: {error}.",
            code="backup_damaged",
            hint="Make backups with the nats-server of this version.",
        ) from error


def _expired(message: ArchivedMessage, max_age_ns: int) -> bool:
    age_ns = nanoseconds(datetime.now(UTC).isoformat()) - message.time_ns
    return _TTL in message.headers or 0 < max_age_ns <= age_ns


def _same(found: StoredEvent, message: ArchivedMessage) -> bool:
    return (
        (found.subject, found.body) == (message.subject, message.body)
        and nanoseconds(found.headers["Nats-Time-Stamp"]) == message.time_ns
        and all(found.headers.get(name) == value for name, value in message.headers.items())
    )


def _differs(stream: StreamBackup, message: ArchivedMessage, what: str) -> Failure:
    return Failure(
        f"Stream {stream.name}: message {message.sequence} {what} after the restore.",
        code="restore_differs",
        hint="Delete what was restored, and restore again.",
    )
