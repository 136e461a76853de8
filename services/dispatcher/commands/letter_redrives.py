"""Handles dead letters again, each once, recorded before and after; the records are what hides them."""

from __future__ import annotations

import asyncio
from typing import Any

from contracts.audit import Attribution, audit_subject
from contracts.commands import AskedRedrive, DeadLetterRedriven
from kit.bus.audit_log import AuditLog
from kit.bus.dead_letters import DeadLetter
from kit.bus.recorded_act import recorded
from services.dispatcher.commands.dead_letter_service import Action, DeadLetterService, letter_act


class LetterRedrives:
    """Re-drives by operators' commands and for other services. Acts on the same thing follow each other."""

    def __init__(self, audit: AuditLog, dead_letters: DeadLetterService) -> None:
        """Call ``dead_letters`` for what was not handled before."""
        self._audit = audit
        self._dead_letters = dead_letters
        #: Held by each act on a letter, that of setting one aside too.
        self.lock = asyncio.Lock()

    async def look(self, number: int) -> DeadLetterRedriven:
        """Return what a re-drive would do.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_FOUND, DEAD_LETTER_NOT_REDRIVABLE, BUS_UNAVAILABLE.
        """
        letter = await self._dead_letters.letters.get(number)
        return _redriven(letter, self._dead_letters.action(letter), None)

    async def redrive_for(self, request: AskedRedrive) -> DeadLetterRedriven:
        """Handle a dead letter again for an operator whom another service has checked.

        Raises:
            SaccadeError: as ``redrive``.
        """
        return await self.redrive(request.dead_letter, request.attribution, request.plan)

    async def redrive(self, number: int, attribution: Attribution, plan: str | None = None) -> DeadLetterRedriven:
        """Handle a dead letter again, unless that was done before.

        Raises:
            SaccadeError: as ``look``; what the handler raises.
        """
        async with self.lock:
            letter = await self._dead_letters.letters.get(number)
            action = self._dead_letters.action(letter)
            done = await self._audit.newest_of_each(audit_subject("*", "dead_letter", str(number), "redriven"))
            if done:
                return _redriven(letter, action, done[-1].sequence)

            async def perform() -> dict[str, Any]:
                await self._dead_letters.redrive(letter)
                return {"action": action}

            act = letter_act(letter, plan)
            outcome = await recorded(self._audit, attribution, act, verb="redrive", done="redriven", perform=perform)
        return _redriven(letter, action, outcome.sequence)


def _redriven(letter: DeadLetter, action: Action, record: int | None) -> DeadLetterRedriven:
    return DeadLetterRedriven(
        dead_letter=letter.number,
        consumer=letter.consumer,
        subject=letter.subject,
        deliveries=letter.deliveries,
        error=letter.error,
        action=action,
        handled=record is not None,
        record=record,
    )
