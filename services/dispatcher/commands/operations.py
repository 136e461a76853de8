"""Operators' side of the dispatcher: the audit log, what it holds back, and the commands; their objects meet here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container
from typing import Final

from nats.aio.client import Client
from saccade_events import Commands, Router

from contracts.commands import ASK_REDRIVE, COMMANDS, DISPATCHER
from contracts.errors import SaccadeError
from contracts.streams import DEADLETTERS, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.dead_letters import DeadLetters
from kit.bus.event_store import EventStore
from kit.bus.lease import Lease
from kit.bus.service_requests import answer_requests
from kit.history.dead_letter_events import DeadLetterEvents
from kit.history.history import History
from services.dispatcher.commands.abandoned_commands import AbandonedCommands
from services.dispatcher.commands.dead_letter_service import DeadLetterService, Handle
from services.dispatcher.commands.job_refolder import JobRefolder
from services.dispatcher.commands.lease_rotation import LeaseRotation
from services.dispatcher.commands.letter_redrives import LetterRedrives
from services.dispatcher.commands.operator_commands import OperatorCommands
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.scheduling.holds import DRAIN_RECORDS, WORKLOAD_RECORDS, fold_holds
from services.dispatcher.scheduling.reconciler import Reconciler

log = logging.getLogger(__name__)

#: Interval between two reads of what is held back: a command is followed at once by the process that carries it out.
_REFRESH_S: Final = 5.0
_RETRY_S: Final = 0.5


class Operations:
    """Commands, and the orders that came from them."""

    def __init__(
        self,
        client: Client,
        lease: Lease,
        repository: JobRepository,
        reconciler: Reconciler,
        *,
        workloads: Container[str],
        reactions: Container[str],
        handle: Handle,
        history: History,
    ) -> None:
        """Make ``reconciler`` follow the orders; ``handle`` calls one of ``reactions`` with an event at hand.

        ``history`` has the events of dead letters that were stored without them.
        """
        self._lease = lease
        self._reconciler = reconciler
        #: Held from the read to the end: what was read before an order must not be followed after it.
        self._loading = asyncio.Lock()
        self.audit = AuditLog(EventStore(client, OPS.name), "/dispatcher")
        self.rotation = LeaseRotation(lease)
        self.abandoned = AbandonedCommands(self.audit)
        refolder = JobRefolder(repository, reconciler.jobs, reconciler)
        letters = DeadLetters(EventStore(client, DEADLETTERS.name))
        events = DeadLetterEvents(EventStore(client), history)
        self._redrives = LetterRedrives(self.audit, DeadLetterService(letters, events, refolder, reactions, handle))
        self.commands = OperatorCommands(
            self.audit,
            reconciler,
            refolder,
            letters,
            self._redrives,
            workloads=workloads,
            load_holds=self.load_holds,
            rotate=self.rotation.rotate,
        )

    def router(self, *, verified_senders: bool) -> Router:
        """Return the router of the commands. The dispatcher that leads answers them."""
        commands = Commands(answers=self._answers, verified_senders=verified_senders)
        for command in COMMANDS:
            if command.service == DISPATCHER:
                commands.on(command, getattr(self.commands, command.verb))
        return commands.router()

    async def answer_services(self) -> None:
        """Carry out what other services ask for; the dispatcher that leads does."""
        handlers = {ASK_REDRIVE: self._redrives.redrive_for}
        await answer_requests(self.audit.store.client, handlers, answers=self._answers)

    def _answers(self) -> bool:
        return self._reconciler.leading and self._lease.held

    async def load_holds(self) -> None:
        """Read what is held back, follow it, and tell it to all who read the lease.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async with self._loading:
            records = [
                *await self.audit.newest_of_each(DRAIN_RECORDS),
                *await self.audit.newest_of_each(WORKLOAD_RECORDS),
            ]
            holds = fold_holds(records)
            self._lease.details = {**self._lease.details, "holds": holds.report()}
            self._reconciler.follow(holds)

    async def wait_for_holds(self) -> None:
        """Read what is held back, however long that takes: who does not know it must not launch anything."""
        while True:
            try:
                await self.load_holds()
                return
            except SaccadeError as error:
                log.warning("cannot read what is held back: %s", error.message)
                await asyncio.sleep(_RETRY_S)

    async def run(self) -> None:
        """Stay up to date, leading or not: another dispatcher may have carried out a command."""
        await self.answer_services()
        while True:
            await asyncio.sleep(_REFRESH_S)
            await self.wait_for_holds()

    async def launches(self) -> str:
        """Return for the health report whether jobs are launched."""
        holds = self._reconciler.holds
        if holds.drained:
            return f"drained since {holds.drained.since:%Y-%m-%dT%H:%M:%SZ} by {holds.drained.by}: {holds.drained.why}"
        if holds.paused:
            return f"paused: {', '.join(sorted(holds.paused))}"
        return "launching"
