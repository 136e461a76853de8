"""Dead letters: what a re-drive means for each consumer, and its execution.

The letter of a reaction is handled again: the reaction gets its event once more. The letter of the dispatcher's fold
is not: a fold only goes forward, and would ignore an old event. The job of the event is folded from its history again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container
from typing import Any, Final, Literal

from contracts.audit import SYSTEM, Act
from contracts.commands import DISPATCHER
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode_at
from contracts.ids import is_job_id
from kit.bus.dead_letters import DeadLetter, DeadLetters
from kit.history.dead_letter_events import DeadLetterEvents
from services.dispatcher.commands.job_refolder import JobRefolder

Action = Literal["handle", "refold"]
#: Calls a reaction by the name of its consumer, with subject, body and sequence of an event.
Handle = Callable[[str, str, bytes, int], Awaitable[None]]
#: What to do about letters of other consumers.
_ADVICE: Final = {
    "gateway": "Stop the gateway, delete the folder GATEWAY_DATA_DIR, and start it: it folds its view again.",
    "notifier": "Event streams read what they missed from the stream; POST /v1/webhooks/{id}/redeliver sends webhooks.",
    "webhooks": "Stop the notifier, delete the folder NOTIFIER_DATA_DIR, and start it: it reads all records again.",
    "endpoints": "Restart the notifier: it reads all endpoints at its start.",
    "callbacks": "Restart the notifier: it reads all callbacks at its start.",
}


class DeadLetterService:
    """Handles dead letters of the dispatcher again."""

    def __init__(
        self,
        letters: DeadLetters,
        events: DeadLetterEvents,
        refolder: JobRefolder,
        reactions: Container[str],
        handle: Handle,
    ) -> None:
        """``reactions`` are the names of this dispatcher's consumers, which ``handle`` calls."""
        self.letters = letters
        self._events = events
        self._refolder = refolder
        self._reactions = reactions
        self._handle = handle

    def action(self, letter: DeadLetter) -> Action:
        """Return what a re-drive does.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_REDRIVABLE.
        """
        if letter.consumer in self._reactions:
            return "handle"
        if letter.consumer != DISPATCHER:
            advice = _ADVICE.get(letter.consumer, "Its own service must handle it.")
            raise SaccadeError(
                ErrorCode.DEAD_LETTER_NOT_REDRIVABLE,
                f"Dead letter {letter.number} belongs to {letter.consumer}, which takes no such command.",
                hint=f"{advice} Then discard the letter.",
            )
        if not is_job_id(letter.subject_id):
            raise SaccadeError(
                ErrorCode.DEAD_LETTER_NOT_REDRIVABLE,
                f"The event of dead letter {letter.number} is about no job, and a fold only goes forward.",
                hint=(
                    "Restart the dispatcher with DISPATCHER_SNAPSHOT_EVENTS=0: it folds everything else at its start. "
                    "Then discard the letter."
                ),
            )
        return "refold"

    async def redrive(self, letter: DeadLetter) -> None:
        """Handle a letter again; it still exists afterwards.

        Raises:
            SaccadeError: it failed again, or cannot be handled by a command.
        """
        if self.action(letter) == "handle":
            body = await self._event_of(letter)
            try:
                await self._handle(letter.consumer, letter.subject, body, letter.sequence)
            except SaccadeError:
                raise
            except Exception as error:
                raise SaccadeError(
                    ErrorCode.INTERNAL,
                    f"{letter.consumer} failed again: {type(error).__name__}: {error}",
                    hint="The letter is kept: correct the cause and try again, or discard the letter.",
                ) from error
            return
        try:
            # A letter that was too large, or one of very many, is stored without the event. The job's history has it.
            if letter.body:
                decode_at(letter.subject, letter.body)
        except ValueError as error:
            raise SaccadeError(
                ErrorCode.DEAD_LETTER_NOT_REDRIVABLE,
                f"The event cannot be read by this version either: {str(error).splitlines()[0]}",
                hint="The job goes on without it; discard the letter.",
            ) from error
        await self._refolder.refold(letter.subject_id, letter.tenant)

    async def _event_of(self, letter: DeadLetter) -> bytes:
        """Return the event of a letter, also of one that was stored without it.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_REDRIVABLE, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        body = await self._events.body_of(letter)
        if body is None:
            raise SaccadeError(
                ErrorCode.DEAD_LETTER_NOT_REDRIVABLE,
                f"Dead letter {letter.number} has no event, and {letter.stream} has event {letter.sequence} no more.",
                hint="Discard the letter.",
            )
        return body


def letter_act(letter: DeadLetter, plan: str | None = None) -> Act:
    """Return the act on a dead letter, which belongs to the tenant of its event; ``plan`` is what it is a part of."""
    about: dict[str, Any] = {
        "consumer": letter.consumer,
        "subject": letter.subject,
        "sequence": letter.sequence,
        "error": letter.error,
    }
    return Act(letter.tenant or SYSTEM, "dead_letter", str(letter.number), about | ({"plan": plan} if plan else {}))
