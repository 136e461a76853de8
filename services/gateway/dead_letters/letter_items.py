"""Letters of a plan, and what re-drives or discards one of them once."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.audit import AuditRecord
from contracts.errors import ErrorCode, SaccadeError
from services.gateway.dead_letters.acts import DeadLetterActs
from services.gateway.dead_letters.letter import LetterState
from services.gateway.dead_letters.plan import TRANSIENT, ItemResult, Plan, PlanAction, PlannedLetter, letters_of
from services.gateway.dead_letters.reader import DeadLetterReader


class LetterItems:
    """Acts on the letters of plans, each once."""

    def __init__(self, reader: DeadLetterReader, acts: DeadLetterActs) -> None:
        """Act by ``acts`` on letters that are open by ``reader``."""
        self._reader, self._acts = reader, acts

    def items_of(self, intent: AuditRecord) -> Sequence[PlannedLetter]:
        """Return the letters of a part."""
        return letters_of(intent)

    async def act(self, plan: Plan, intent: AuditRecord, item: PlannedLetter) -> ItemResult:
        """Act on one letter if that was not done before; it is skipped if somebody else has settled it.

        Raises:
            SaccadeError: as ``DeadLetterActs.perform``.
        """
        index = await self._reader.catch_up()
        letter = index.get(item.id)
        if letter is None or letter.fault != item.fault or index.state(letter) is not LetterState.OPEN:
            # Settled, or with a newer fault, which is not what the plan is for. If it has an intent on it, a process
            # that was killed since did it, and perhaps did not come to say so.
            return "done" if index.begun_by(item.id) == plan.id else "skipped"
        outcome = index.outcome(letter)
        own = outcome is not None and outcome.plan == plan.id
        if own and outcome is not None and outcome.error_code not in (None, *TRANSIENT):
            raise SaccadeError(ErrorCode.INTERNAL, "It failed again, before this process took the plan over.")
        action: PlanAction = "discard" if plan.action == "discard" else "redrive"
        await self._acts.perform(action, letter, intent.data, plan.id)
        return "done"
