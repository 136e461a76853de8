"""Protocol of targets: the checkpoint that the target itself holds, and a place to send events to.

The engine keeps no position. After a kill it opens the target again and goes on after what the target holds, so a
target whose checkpoint and content are one thing gets every event exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from contracts.errors import ErrorCode, SaccadeError
from contracts.replay import Replay, ReplayCounts, ReplayInto, ReplayPace, ReplaySelection, ReplayState, ReplayWindow

if TYPE_CHECKING:
    from kit.history.history import HistoryEvent

#: Errors that pass: a replay that meets one goes on at its checkpoint. The bucket holds the archive.
TRANSIENT: Final = frozenset({ErrorCode.BUS_UNAVAILABLE, ErrorCode.EVENTS_FULL, ErrorCode.STORAGE_UNAVAILABLE})


class SendOutcome(StrEnum):
    """Outcome of one event."""

    SENT = "sent"
    #: The target does not take events of this kind; it must hold none of it either.
    SKIPPED = "skipped"
    #: The target did not take it. The engine goes on, and pauses the replay when too many of the newest ones failed.
    FAILED = "failed"


@dataclass(frozen=True)
class Checkpoint:
    """Position that a target holds: it has got, skipped or failed to get everything up to ``sequence``."""

    sequence: int
    #: As far as the target knows them: the engine counts the rest as sent.
    skipped: int = 0
    failed: int = 0


@dataclass(frozen=True)
class WantedReplay:
    """A replay that is being planned, before its events are counted."""

    #: Id that the replay will have, and the tenant that asks for it.
    id: str
    tenant: str
    into: ReplayInto
    selection: ReplaySelection
    window: ReplayWindow
    pace: ReplayPace


@dataclass(frozen=True)
class TargetCheck:
    """Answer of a target to a plan."""

    #: The part of the selection that the target takes, which is counted; None: nothing of it.
    takes: ReplaySelection | None
    #: Sentences for the plan: what the user should know before the start.
    warnings: tuple[str, ...] = ()
    #: The most events per second that the target takes; None: no limit.
    rate_per_s: float | None = None


def require_unsent(replay: Replay, kept_s: float, now: datetime, position: str) -> None:
    """Refuse to begin a replay again without what is its position: who got it would get it a second time.

    ``position`` names it in the plural. It expires after ``kept_s``, or before that with the stream that has it.

    Raises:
        SaccadeError: REPLAY_TARGET_REFUSED.
    """
    known = replay.paused_counts
    age = timedelta() if replay.started_at is None else now - replay.started_at
    if age > timedelta(seconds=kept_s) or (known is not None and known.sent + known.failed):
        message = f"The {position} of this replay have expired, and with them its position."
        raise SaccadeError(ErrorCode.REPLAY_TARGET_REFUSED, message, hint="Plan the rest as a new replay.")


class ReplayTarget(Protocol):
    """An open target of one replay. Only the process that holds the lease ``replays`` has one."""

    async def resume_after(self) -> Checkpoint | None:
        """Return the position that the target itself holds; None: it has nothing of this replay yet.

        Raises:
            SaccadeError: BUS_UNAVAILABLE: the engine tries again; any other ends the replay as failed.
        """

    async def send(self, event: HistoryEvent) -> SendOutcome:
        """Pass one event; the next one follows when this returns. It may wait as long as it must, and is cancelled.

        After a cancellation at any point, or a kill, ``resume_after`` of a new target tells whether it was taken.

        Raises:
            SaccadeError: BUS_UNAVAILABLE: the engine opens the target again and goes on at its checkpoint; any other
                ends the replay as failed.
        """

    async def close(self, outcome: ReplayState, counts: ReplayCounts) -> None:
        """End: ``outcome`` is completed, cancelled or failed; running or paused when only this process stops.

        Called before the end is recorded, and again by the next process if this one dies in between.
        """


class TargetKind(Protocol):
    """One kind of target, such as ``webhook``: checks plans and opens targets."""

    async def check(self, wanted: WantedReplay) -> TargetCheck:
        """Answer a plan, without any effect; called again at the start, when the target may have changed.

        Raises:
            SaccadeError: such a replay is not possible.
        """

    async def open(self, replay: Replay) -> ReplayTarget:
        """Return the target of a replay that is about to run, or to go on.

        Raises:
            SaccadeError: as ``ReplayTarget.send``.
        """


@dataclass(frozen=True)
class TargetKinds:
    """Kinds of targets of this notifier by their names, ``webhook`` and ``sandbox``.

    ``sse`` and ``file`` need none: the client that reads such a replay holds the checkpoint.
    """

    by_name: dict[str, TargetKind] = field(default_factory=dict)

    def of(self, into: ReplayInto) -> TargetKind:
        """Return the kind of a target.

        Raises:
            SaccadeError: WEBHOOKS_NOT_CONFIGURED, SANDBOX_NOT_CONFIGURED.
        """
        if kind := self.by_name.get(into.kind):
            return kind
        missing = {"webhook": ErrorCode.WEBHOOKS_NOT_CONFIGURED, "sandbox": ErrorCode.SANDBOX_NOT_CONFIGURED}
        raise SaccadeError(missing.get(into.kind, ErrorCode.INTERNAL))
