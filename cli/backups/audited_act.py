"""Records in the audit log of what this command does itself: the intent before it, the outcome after it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client

from contracts.audit import SYSTEM, Act, Attribution
from contracts.streams import OPS
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import stream_state

_NOUN: Final = "backup"
_SOURCE: Final = "/saccade"


@dataclass(frozen=True)
class ActVerbs:
    """Verbs of the records of one act."""

    requested: str
    done: str
    failed: str


BACKUP: Final = ActVerbs("requested", "stored", "failed")
RESTORE: Final = ActVerbs("restore_requested", "restored", "restore_failed")


@contextlib.asynccontextmanager
async def audited(
    client: Client, backup_id: str, verbs: ActVerbs, attribution: Attribution, details: dict[str, Any]
) -> AsyncIterator[dict[str, Any]]:
    """Record the intent before the block, and after it the outcome with the details that the block has put in.

    Raises:
        SaccadeError: BUS_UNAVAILABLE: the intent was not recorded, and nothing is done.
    """
    outcome: dict[str, Any] = {}
    if await stream_state(client, OPS.name) is None:
        yield outcome  # no service has ever run on this bus
        return
    log = _log(client)
    intent = await log.intent(Act(SYSTEM, _NOUN, backup_id, details), verbs.requested, attribution)
    try:
        yield outcome
    except BaseException as error:
        with contextlib.suppress(Exception):
            await log.outcome(intent, verbs.failed, {"error": str(error)[:500] or type(error).__name__})
        raise
    await log.outcome(intent, verbs.done, outcome)


async def end_intent_of_backup(client: Client, backup_id: str) -> None:
    """End the intent of its own backup in a restored log: without the outcome the backup would not exist."""
    if await stream_state(client, OPS.name) is None:
        return
    log = _log(client)
    intents, _ = await log.open_intents(after=0)
    for intent in intents:
        if (intent.noun, intent.subject_id, intent.verb) == (_NOUN, backup_id, BACKUP.requested):
            await log.outcome(intent, BACKUP.done, {})


def _log(client: Client) -> AuditLog:
    return AuditLog(EventStore(client, OPS.name), _SOURCE)
