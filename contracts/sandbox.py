"""Sandboxes: where replayed events go for other programs to read, and the rights of who writes and who reads there.

A copy of an event ``saccade.evt.<rest>`` is stored as ``saccade.rpl.<sandbox>.<replay>.<rest>`` in the stream REPLAYS.
No subject of a sandbox begins like that of an event, and nobody who writes or reads one may publish an event: nothing
that is replayed can be taken for something that happened.

The reader gets its copies pushed to a subject of its own and asks for nothing. A request would name a reply subject,
which nats-server does not check (docs/adr/0005): where all users share one account, an answer could be sent to the
subject of an event.
"""

from __future__ import annotations

import re
from typing import Final

from contracts.bus_grant import BusGrant
from contracts.streams import REPLAYS

SANDBOX_PATTERN: Final = r"^[a-z][a-z0-9-]{0,31}$"
#: Headers of a copy: its replay, and the cursor of the event that it is a copy of.
REPLAY_HEADER: Final = "Saccade-Replay"
REPLAY_OF_HEADER: Final = "Saccade-Replay-Of"
#: User that stores copies, the prefix of the subjects at which it receives answers, and what it may publish to:
#: copies, and reads of the newest one.
WRITER: Final = "replayer"
WRITER_INBOX: Final = f"_INBOX_{WRITER}"
EVERY_COPY: Final = "saccade.rpl.>"
WRITER_READS: Final = (f"$JS.API.DIRECT.GET.{REPLAYS.name}", f"$JS.API.STREAM.MSG.GET.{REPLAYS.name}")
WRITER_SUBJECTS: Final = (EVERY_COPY, *WRITER_READS)
#: What all readers are sent, and what they publish to tell that they keep up.
EVERY_DELIVERY: Final = "saccade.sandbox.*"
FLOW_CONTROL: Final = f"$JS.FC.{REPLAYS.name}.>"
_EVENTS: Final = "saccade.evt."


def copy_subject(sandbox: str, replay_id: str, event_subject: str) -> str:
    """Return the subject of the copy of an event.

    Raises:
        ValueError: this is not the subject of an event, or not a sandbox's name.
    """
    if not event_subject.startswith(_EVENTS):
        raise ValueError(f"not the subject of an event: {event_subject!r}")
    return f"saccade.rpl.{_checked(sandbox)}.{replay_id}.{event_subject.removeprefix(_EVENTS)}"


def copies_of(sandbox: str, replay_id: str) -> str:
    """Return the filter of all copies of one replay: the condition of each publish, and the place of its checkpoint."""
    return f"saccade.rpl.{_checked(sandbox)}.{replay_id}.>"


def copies_in(sandbox: str) -> str:
    """Return the filter of all copies in a sandbox."""
    return f"saccade.rpl.{_checked(sandbox)}.>"


def delivery_subject(sandbox: str) -> str:
    """Return the subject at which the reader of a sandbox receives its copies."""
    return f"saccade.sandbox.{_checked(sandbox)}"


def reader_consumer(sandbox: str) -> str:
    """Return the name of the consumer that delivers a sandbox's copies."""
    return f"sandbox-{_checked(sandbox)}"


def reader_grant(sandbox: str) -> BusGrant:
    """Return the grant of who reads a sandbox: to receive its copies, and to tell that it keeps up; nothing else."""
    return BusGrant(
        # A name that no service can have (contracts/consumers.py): both are users in one file.
        name=f"sandbox.{_checked(sandbox)}",
        tags=(f"sandbox:{sandbox}",),
        publish=(f"$JS.FC.{REPLAYS.name}.{reader_consumer(sandbox)}.>",),
        subscribe=(delivery_subject(sandbox),),
        # Its copies and an inbox; twice, so that a client can open new ones before it closes the old ones.
        max_subscriptions=4,
    )


def _checked(sandbox: str) -> str:
    if not re.fullmatch(SANDBOX_PATTERN, sandbox):
        raise ValueError(f"not a sandbox's name: {sandbox!r}; it must match {SANDBOX_PATTERN}")
    return sandbox
