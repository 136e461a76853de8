"""Epochs of a stream: which cursors still stand for a position in it, after it was restored from a backup.

A sequence alone does not say which event it means: a stream that is restored to an older point assigns its sequences
again. A cursor therefore names an epoch. The epochs of a stream, and up to where each agrees with what the stream holds
today, are in the stream's metadata and so in every backup of it (docs/adr/0033).

``saccade.incarnation`` names the creation of the stream for which the epochs were written. When it is another one, the
stream was restored by hand, and nobody knows how far it had come before: a new epoch begins after its last restored
event. Every process computes the same one from what the server says, so that none has to be the first.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from kit.bus.jetstream_api import error_code, first_stored_since, request
from kit.bus.leader_reads import info_of_leader, is_clustered

log = logging.getLogger(__name__)

EPOCHS_KEY: Final = "saccade.epochs"
INCARNATION_KEY: Final = "saccade.incarnation"
#: Epochs that are kept; a cursor of an older one gets a gap.
_MAX_EPOCHS: Final = 200
#: Pause before a written epoch is read again: a service that declares the stream at the same time may overwrite it.
_VERIFY_S: Final = 0.1
_ATTEMPTS: Final = 5
#: Longer than a leader that is cut off from the others goes on answering.
_STALE_LEADER_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: the sequences up to ``until`` that its cursors name are the same events in today's stream."""

    id: str
    #: Sequence after which its own events begin.
    first: int = 0
    #: None: it is the current epoch.
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """Epochs of a stream, the current one last; empty when they are not known yet."""

    epochs: tuple[Epoch, ...] = ()

    @property
    def current(self) -> Epoch:
        """Epoch of the cursors that are given out now."""
        return self.epochs[-1] if self.epochs else Epoch("")

    def position_of(self, cursor: Cursor) -> int | None:
        """Return the sequence in today's stream that a cursor stands for; None when it stands for none."""
        for epoch in self.epochs:
            if epoch.id == cursor.epoch:
                return cursor.sequence if epoch.until is None or cursor.sequence <= epoch.until else None
        return None

    def shared_with(self, cursor: Cursor) -> int:
        """Return the last sequence, at most that of a cursor, up to which its history is that of today's stream."""
        for epoch in self.epochs:
            if epoch.id == cursor.epoch:
                return cursor.sequence if epoch.until is None else min(cursor.sequence, epoch.until)
        return 0

    def forked(self, fork: int, epoch_id: str) -> Lineage:
        """Return the lineage with a new epoch, of which only the events up to ``fork`` are those of the others."""
        older = (Epoch(epoch.id, epoch.first, _least(epoch.until, fork)) for epoch in self.epochs)
        return Lineage((*older, Epoch(epoch_id, fork))[-_MAX_EPOCHS:])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text in a stream's metadata.

        Raises:
            ValueError: it is not a lineage.
        """
        try:
            epochs = tuple(Epoch(str(item["id"]), int(item["first"]), item["until"]) for item in json.loads(text))
        except (TypeError, KeyError) as error:
            raise ValueError(f"not a lineage: {text[:200]!r}") from error
        if not epochs or epochs[-1].until is not None or any(epoch.until is None for epoch in epochs[:-1]):
            raise ValueError(f"not a lineage: {text[:200]!r}")
        return cls(epochs)

    def __str__(self) -> str:
        """Return the text for the stream's metadata."""
        fields = [{"id": epoch.id, "first": epoch.first, "until": epoch.until} for epoch in self.epochs]
        return json.dumps(fields, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Epochs and sequences of a stream at one moment."""

    lineage: Lineage
    #: Id of its creation: another one means that the stream was deleted, and created or restored.
    incarnation: str
    first: int
    last: int


async def position_of_stream(client: Client, stream: str) -> StreamPosition:
    """Return a stream's lineage, incarnation and last sequence, as the node knows them that leads it.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE, also while no node leads it.
    """
    info = await info_of_leader(client, stream)
    state = info["state"]
    lineage = await lineage_of(client, info)
    return StreamPosition(lineage, incarnation_of(info), int(state["first_seq"]), int(state["last_seq"]))


def incarnation_of(info: Mapping[str, Any]) -> str:
    """Return the id of a stream's creation, from its time: also the epoch of a stream that has no lineage yet."""
    return f"{int(_digits(info['created'])[:20]):x}"


async def lineage_of(client: Client, info: Mapping[str, Any]) -> Lineage:
    """Return the lineage of the stream with this information, with a new epoch if it was restored by hand.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    incarnation, stored = incarnation_of(info), stored_lineage(info)
    if stored is None:
        return Lineage((Epoch(incarnation),))
    if not _restored_by_hand(info):
        return stored
    return stored.forked(await _restored_to(client, info), incarnation)


def stored_lineage(info: Mapping[str, Any]) -> Lineage | None:
    """Return the lineage in a stream's metadata; None when there is none, or it cannot be read."""
    text = _metadata(info).get(EPOCHS_KEY)
    try:
        return Lineage.parse(text) if text else None
    except ValueError as error:
        log.warning("stream %s: %s", info["config"]["name"], error)
        return None


def metadata_with(info: Mapping[str, Any], lineage: Lineage) -> dict[str, str]:
    """Return a stream's metadata with this lineage, written for its present incarnation."""
    return _metadata(info) | {EPOCHS_KEY: str(lineage), INCARNATION_KEY: incarnation_of(info)}


def metadata_that_keeps_the_epoch(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata with which a stream may be restored that had no newer event than its backup: it keeps its epoch.

    Only for who knows that no event was stored after the backup, or that nobody has a cursor of one.
    """
    return {key: value for key, value in metadata.items() if key != INCARNATION_KEY}


async def open_epoch(client: Client, stream: str, fork: int) -> Lineage:
    """Begin a new epoch after the sequence ``fork``, because later ones meant other events before; return the lineage.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE.
    """
    for _ in range(_ATTEMPTS):
        info = await info_of_leader(client, stream)
        known = stored_lineage(info) or Lineage((Epoch(incarnation_of(info)),))
        # The id that every process would take for a restored stream; never one that a stream may have had before.
        epoch_id = incarnation_of(info) if _restored_by_hand(info) else secrets.token_hex(8)
        lineage = known.forked(fork, epoch_id)
        config = info["config"] | {"metadata": metadata_with(info, lineage)}
        answer = await request(client, f"STREAM.UPDATE.{stream}", config)
        if error_code(answer):
            reason = answer["error"].get("description", "")
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS refused the epoch of stream {stream}: {reason}.")
        await asyncio.sleep(_VERIFY_S)
        written = stored_lineage(await info_of_leader(client, stream)) or Lineage()
        if any(epoch.id == epoch_id for epoch in written.epochs):
            log.warning("stream %s: epoch %s begins after sequence %d", stream, epoch_id, fork)
            return written
    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"The new epoch of stream {stream} was overwritten by others.")


async def open_epoch_if_behind(client: Client, stream: str, seen: Cursor) -> bool:
    """Open an epoch if the stream ends before a position that was seen in its current epoch, and nobody has done so.

    Its files were set back, or the server lost what it had acknowledged: the next events get sequences that already
    stand for others. A stream without stored lineage has no cursors, and gets no epoch. Return False if the stream has
    that position.

    Raises:
        StreamMissing: there is no such stream.
        SaccadeError: BUS_UNAVAILABLE.
    """
    loop = asyncio.get_running_loop()
    sure_at = loop.time() + (_STALE_LEADER_S if is_clustered(client) else 0.0)
    while True:
        info = await info_of_leader(client, stream)
        last = int(info["state"]["last_seq"])
        if stored_lineage(info) is not None and (await lineage_of(client, info)).current.id != seen.epoch:
            return True
        if last >= seen.sequence:
            return False
        if loop.time() >= sure_at:
            break
        await asyncio.sleep(_STALE_LEADER_S / 20)  # a leader that is cut off lacks what the next one has stored
    log.warning("stream %s ends at %d, and was read up to %d", stream, last, seen.sequence)
    if stored_lineage(info) is not None:
        await open_epoch(client, stream, last)
    return True


def _restored_by_hand(info: Mapping[str, Any]) -> bool:
    """Return whether the stream was created anew since its lineage was written."""
    metadata, incarnation = _metadata(info), incarnation_of(info)
    return EPOCHS_KEY in metadata and metadata.get(INCARNATION_KEY, incarnation) != incarnation


async def _restored_to(client: Client, info: Mapping[str, Any]) -> int:
    """Return the last sequence of a restored stream that was stored before the restore.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    state, created = info["state"], info["created"]
    if not state["messages"] or _digits(state["last_ts"]) < _digits(created):
        return int(state["last_seq"])
    first = await first_stored_since(client, info["config"]["name"], created)
    return int(state["last_seq"]) if first is None else first - 1


def _metadata(info: Mapping[str, Any]) -> dict[str, str]:
    return dict(info["config"].get("metadata") or {})


def _digits(time: str) -> str:
    """Return an RFC 3339 time in UTC as digits, down to nanoseconds, that sort like the times."""
    return "".join(filter(str.isdigit, time))[:23].ljust(23, "0")


def _least(until: int | None, fork: int) -> int:
    return fork if until is None else min(until, fork)
