"""Dead letters as operators see them: lists with groups, single letters, acts, and plans of many acts."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.audit import SYSTEM, Attribution, AuditRecord, audit_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import DURABLE, RECORD, decode_at, subject_of
from contracts.events.delivery import WebhookDelivered
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, DELIVERIES, EVENTS
from kit.bus.dead_letters import parse_dead_letter
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.history.dead_letter_events import DeadLetterEvents
from services.gateway.dead_letters.acts import DeadLetterActs
from services.gateway.dead_letters.index import DeadLetterIndex
from services.gateway.dead_letters.letter import NOUN, Kind, Letter, LetterState
from services.gateway.dead_letters.plan import MAX_ITEMS, Plan, PlanAction, PlannedLetter, parts
from services.gateway.dead_letters.plan_runner import PlanRunner
from services.gateway.dead_letters.reader import DeadLetterReader
from services.gateway.dead_letters.selection import LetterFilter, select

_STREAMS: Final = {Kind.EVENT: DEADLETTERS.name, Kind.DELIVERY: DELIVERIES.name, Kind.JOB: EVENTS.name}


@dataclass(frozen=True)
class ChosenLetters:
    """Letters that match a filter."""

    index: DeadLetterIndex
    letters: list[Letter]

    def redrivable(self) -> list[Letter]:
        """Return those that a command can handle again."""
        return [letter for letter in self.letters if letter.action is not None]


@dataclass(frozen=True)
class WantedPlan:
    """Act on all letters that match a filter, as a user asks for it."""

    letters: LetterFilter
    action: PlanAction
    #: How many letters the user expects.
    expected: int
    attribution: Attribution
    #: What the audit log tells about the request.
    about: dict[str, Any]
    key: IdempotencyKey | None


@dataclass(frozen=True)
class FullLetter:
    """A letter with what it holds and what was done about it."""

    letter: Letter
    state: LetterState
    #: Whether a re-drive went well; None: not known yet, or none was made.
    verified: bool | None
    #: Its event, or the record of the attempt; None: it is stored nowhere any more.
    event: bytes | None
    acts: list[AuditRecord]


class AllDeadLetters:
    """Operations on dead letters. ``tenant`` is the one that the operator reaches; None: every one."""

    def __init__(
        self,
        reader: DeadLetterReader,
        acts: DeadLetterActs,
        runner: PlanRunner,
        idempotency: Idempotency,
        events: DeadLetterEvents,
    ) -> None:
        """``runner`` carries plans out; ``events`` has those that letters were stored without."""
        self.reader = reader
        self._events = events
        self._idempotency = idempotency
        self._acts = acts
        self._runner = runner
        #: By tenant of the request.
        self._planning: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def choose(self, wanted: LetterFilter) -> ChosenLetters:
        """Return the letters that match a filter, newest first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        index = await self.reader.catch_up()
        return ChosenLetters(index, await select(index, wanted))

    async def read(self, tenant: str | None, letter_id: str) -> FullLetter:
        """Return a letter, its event, and what was done about it.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_FOUND, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        index, letter = await self._find(tenant, letter_id)
        store = EventStore(self._acts.audit.store.client, _STREAMS[letter.kind])
        found, _ = await store.batch(letter.fault - 1, size=1, with_headers=True)
        stored = found[0] if found and found[0].sequence == letter.fault else None
        event = stored.body if stored else None
        if stored is not None and letter.kind is Kind.EVENT:
            event = await self._events.body_of(parse_dead_letter(stored))
        subjects = audit_subject("*", NOUN, letter_id, "*")
        acts = [record async for record in self._acts.audit.records(subjects=subjects)]
        state = index.state(letter)
        verified = await self._verified(letter, store) if state is LetterState.REDRIVEN else None
        return FullLetter(letter, state, verified, event, acts)

    async def act(self, tenant: str | None, action: PlanAction, letter_id: str, attribution: Attribution) -> int:
        """Re-drive or discard a letter; return the sequence of the outcome in the audit log.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_FOUND, DEAD_LETTER_SETTLED; as ``DeadLetterActs.perform``.
        """
        index, letter = await self._find(tenant, letter_id)
        if (state := index.state(letter)) is not LetterState.OPEN:
            raise SaccadeError(ErrorCode.DEAD_LETTER_SETTLED, f"The dead letter {letter_id} is {state.value}.")
        return await self._acts.perform(action, letter, attribution)

    async def plan(self, wanted: WantedPlan) -> Plan:
        """Freeze an act on all letters that match, if they are as many as expected, and have it carried out.

        Requests with the same Idempotency-Key make one plan.

        Raises:
            SaccadeError: DEAD_LETTERS_CHANGED: there are more or fewer; INVALID_PARAMETER: too many at once;
                BUS_UNAVAILABLE: nothing of it is carried out, unless all of it was stored.
        """
        if wanted.key is None:
            return await self._plan(wanted)
        # One of a tenant at a time: the second of two equal requests finds the plan of the first.
        async with self._planning[wanted.key.tenant]:
            return await self._plan(wanted)

    async def _plan(self, wanted: WantedPlan) -> Plan:
        key, tenant = wanted.key, wanted.letters.tenant
        known_id = await self._idempotency.recall(key) if key else None
        letters = self.chosen(await self.choose(wanted.letters), wanted.action)
        if known_id and (known := self.reader.plans.get(known_id)):
            return known
        if len(letters) != wanted.expected:
            raise SaccadeError(
                ErrorCode.DEAD_LETTERS_CHANGED,
                f"{len(letters)} dead letters match, and {wanted.expected} were expected.",
                count=len(letters),
            )
        if len(letters) > MAX_ITEMS:
            message = f"{len(letters)} dead letters are too many at once: at most {MAX_ITEMS}."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Choose fewer by kind, service or time.")
        plan_id = known_id or new_id("dlp")
        if key and known_id is None and (claimed := await self._idempotency.claim(key, plan_id)) != plan_id:
            return await self.read_plan(tenant, claimed)
        planned = [PlannedLetter(letter.id, letter.fault) for letter in letters]
        for part in parts(plan_id, tenant or SYSTEM, wanted.action, planned, wanted.about):
            await self._acts.audit.intent(part, f"{wanted.action}_requested", wanted.attribution)
        self._runner.wake()
        return await self.read_plan(tenant, plan_id)

    def chosen(self, choice: ChosenLetters, action: PlanAction) -> Sequence[Letter]:
        """Return the letters that an act would be on, oldest first: what came first is done first."""
        return list(reversed(choice.redrivable() if action == "redrive" else choice.letters))

    async def read_plan(self, tenant: str | None, plan_id: str) -> Plan:
        """Return a plan.

        Raises:
            SaccadeError: DEAD_LETTER_PLAN_NOT_FOUND, BUS_UNAVAILABLE.
        """
        await self.reader.catch_up()
        plan = self.reader.plans.get(plan_id)
        if plan is None or tenant not in (None, plan.tenant):
            raise SaccadeError(ErrorCode.DEAD_LETTER_PLAN_NOT_FOUND)
        return plan

    async def _find(self, tenant: str | None, letter_id: str) -> tuple[DeadLetterIndex, Letter]:
        index = await self.reader.catch_up()
        letter = index.get(letter_id)
        if letter is None or tenant not in (None, letter.tenant):
            raise SaccadeError(ErrorCode.DEAD_LETTER_NOT_FOUND, f"There is no dead letter {letter_id}.")
        return index, letter

    async def _verified(self, letter: Letter, store: EventStore) -> bool | None:
        """Return whether a re-drive went well."""
        if letter.kind is Kind.EVENT:
            return True  # the dispatcher records that it was handled, not that it was ordered
        if letter.kind is Kind.JOB:
            subjects = subject_of(DURABLE, letter.tenant, "job", letter.subject, "succeeded")
            return True if await store.load(subjects) else None
        subjects = subject_of(RECORD, letter.tenant, "webhook", letter.details["endpoint_id"], "delivered")
        async for stored in store.history(letter.fault, subjects):
            data = decode_at(stored.subject, stored.body).parsed()
            if isinstance(data, WebhookDelivered) and data.sequence == letter.details["sequence"]:
                return True
        return None
