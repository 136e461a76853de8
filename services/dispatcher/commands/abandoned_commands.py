"""Ends commands whose process died in the middle: an intent without an outcome gets the outcome ``…_abandoned``.

Nothing is carried out late: the sender got no answer, and may have decided otherwise since. The outcome says what is
true of the command then.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.audit import AuditRecord
from contracts.commands import COMMAND_S
from contracts.errors import SaccadeError
from kit.bus.audit_log import AuditLog

log = logging.getLogger(__name__)

_NOTHING_CHANGED: Final = "Nothing was changed. Send the command again if it is still wanted."
#: What is true after the process that worked on a command has died.
_MEANING: Final = {
    "lease": "The dispatcher that was asked has ended, so another one leads.",
    "job": "The dispatcher that was asked has ended; the next one has folded every job from its history.",
    "dead_letter": "It may have been handled. The letter is kept: handle it again, or discard it.",
}
#: Acts that last longer than a command: the process that takes over goes on with them, and ends them.
RESUMED_NOUNS: Final = frozenset({"archive", "backup", "dead_letter_plan", "erasure", "job_plan"})


class AbandonedCommands:
    """Ends abandoned commands while this dispatcher leads."""

    def __init__(self, audit: AuditLog, *, after_s: float = COMMAND_S, interval_s: float = COMMAND_S / 2) -> None:
        """Count a command as abandoned ``after_s`` seconds after its intent."""
        self._audit = audit
        self._after = timedelta(seconds=after_s)
        self._interval_s = interval_s
        #: Sequence of the audit log up to which every intent has an outcome.
        self._looked_at: int | None = None

    async def run(self) -> None:
        """End abandoned commands until cancelled."""
        while True:
            try:
                await self._end_all()
            except SaccadeError as error:
                log.warning("commands without an outcome are not ended yet: %s", error.message)
            await asyncio.sleep(self._interval_s)

    async def _end_all(self) -> None:
        until = datetime.now(UTC) - self._after
        intents, self._looked_at = await self._audit.open_intents(self._looked_at)
        for intent in intents:
            if intent.time <= until and intent.noun not in RESUMED_NOUNS:
                log.warning("%s of %s %s has no outcome: abandoned", intent.verb, intent.noun, intent.subject_id)
                meaning = _MEANING.get(intent.noun, _NOTHING_CHANGED)
                await self._audit.outcome(intent, abandoned_verb(intent), {"meaning": meaning})


def abandoned_verb(intent: AuditRecord) -> str:
    """Return the verb of the outcome of an abandoned intent."""
    return f"{intent.verb.removesuffix('_requested')}_abandoned"
