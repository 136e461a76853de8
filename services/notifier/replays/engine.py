"""Carries out the replays into targets that the server sends to: webhooks and sandboxes. One process at a time does.

The process that holds the lease ``replays`` has one task for each replay that runs or is paused. No position is stored:
a task begins at the checkpoint that its target holds, so a process that dies is continued by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.replay import PAUSE_WINDOW, Replay, ReplayCounts, ReplayState
from kit.bus.lease import Lease
from kit.history.history import History, HistoryEvent
from kit.tasks import end, first_of
from services.notifier.replays.live_first import LiveFirst
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.pace import FailureWindow, Schedule
from services.notifier.replays.progress import ReplayProgress
from services.notifier.replays.replay_service import ReplayService
from services.notifier.replays.target import TRANSIENT, ReplayTarget, TargetKinds

log = logging.getLogger(__name__)

LEASE: Final = "replays"
#: Waits between two attempts to go on while the bus or the archive is unavailable.
_RETRY_S: Final = 0.5
_CHECK_S: Final = 1.0
#: A notifier without replays looks for them this often, and at every new record.
_IDLE_S: Final = 60.0
#: Time after which a pause is noticed while the target waits, for example until a webhook's quiet hours are over.
_NOTICED_S: Final = 0.5
_RUNS: Final = frozenset({ReplayState.RUNNING, ReplayState.PAUSED})


class ReplayEngine:
    """Runs replays while this process holds the lease."""

    def __init__(self, service: ReplayService, history: History, kinds: TargetKinds, traffic: LiveTraffic) -> None:
        """Send to targets of ``kinds``, beside the live events of ``traffic``."""
        self._service = service
        self._history = history
        self._kinds = kinds
        self._traffic = traffic

    async def run(self) -> None:
        """Run replays whenever there are some and this process gets the lease; until cancelled.

        The lease is held only while there are replays: a system without any writes nothing for them.
        """
        records = self._service.records
        client = records.audit.store.client
        await records.wait_until_read()
        while True:
            while not self._wanted():
                await records.changed(_IDLE_S)
            lease = Lease(client, LEASE)
            await lease.acquire()
            try:
                await first_of(lease.keep(), self._lead())
            finally:
                await lease.release()

    def _wanted(self) -> list[Replay]:
        """Return the replays that some notifier must carry out."""
        kinds = self._kinds.by_name
        return [
            replay for replay in self._service.records.all() if replay.state in _RUNS and replay.plan.into.kind in kinds
        ]

    async def _lead(self) -> None:
        """Carry out replays until there are none."""
        tasks: dict[str, asyncio.Task[None]] = {}
        try:
            while (wanted := self._wanted()) or tasks:
                for replay in wanted:
                    if replay.id not in tasks:
                        tasks[replay.id] = asyncio.create_task(self._carry_out(replay))
                await self._service.records.changed(_CHECK_S)
                tasks = {replay_id: task for replay_id, task in tasks.items() if not task.done()}
        finally:
            await end(*tasks.values())

    async def _carry_out(self, replay: Replay) -> None:
        """Run one replay to its end, over outages of the bus."""
        while True:
            # What its records say by now, such as its counts when it was paused.
            replay = self._service.records.get(replay.id) or replay
            run = _Run(self._service, self._history, replay, self._traffic)
            try:
                self._service.check_branch(replay)
                target = await self._kinds.of(replay.plan.into).open(replay)
                if await run.play(target):
                    return
                await self._until_resumed(replay.id)
                continue
            except SaccadeError as error:
                log.warning("replay %s: %s", replay.id, error)
                if not _is_transient(error) and await self._failed(run, error):
                    return
            except Exception as error:
                log.exception("replay %s failed", replay.id)
                message = f"{type(error).__name__}: {error}"
                if await self._failed(run, SaccadeError(ErrorCode.INTERNAL, message)):
                    return
            await asyncio.sleep(_RETRY_S)

    async def _until_resumed(self, replay_id: str) -> None:
        """Wait while a replay is paused, with its target closed."""
        records = self._service.records
        while (replay := records.get(replay_id)) is not None and replay.state is ReplayState.PAUSED:
            await records.changed(_CHECK_S)

    async def _failed(self, run: _Run, error: SaccadeError) -> bool:
        """Record the failure of a replay; return whether it is recorded."""
        try:
            await self._service.fail(run.replay, run.counts, error)
        except SaccadeError as unavailable:
            log.warning("replay %s: its failure is not recorded yet: %s", run.replay.id, unavailable)
            return False
        return True


class _Run:
    """One replay from the checkpoint of its target on."""

    def __init__(self, service: ReplayService, history: History, replay: Replay, traffic: LiveTraffic) -> None:
        self.replay = replay
        self.counts: ReplayCounts | None = None
        self._service = service
        self._history = history
        self._traffic = traffic
        self._schedule = Schedule(replay.plan.pace)
        self._live_first = LiveFirst()
        self._failures = FailureWindow()

    async def play(self, target: ReplayTarget) -> bool:
        """Send what the target does not hold yet, and record the end; return False if it was paused before it.

        Raises:
            SaccadeError: it cannot go on now, or at all.
        """
        plan = self.replay.plan
        try:
            checkpoint = await target.resume_after()
            after = max(plan.window.after, checkpoint.sequence) if checkpoint else plan.window.after
            done = await self._service.planner.count(plan, after)
            skipped, failed = (checkpoint.skipped, checkpoint.failed) if checkpoint else (0, 0)
            self.counts = ReplayCounts(sent=max(0, done - skipped - failed), skipped=skipped, failed=failed)
            self._report(after)
            state = await self._send_all(target, after)
        except BaseException as error:
            fails = isinstance(error, Exception) and not _is_transient(error)
            with contextlib.suppress(SaccadeError):
                await target.close(ReplayState.FAILED if fails else self._state(), self.counts or ReplayCounts())
            raise
        assert self.counts is not None
        await target.close(state, self.counts)
        if state is ReplayState.COMPLETED:
            self._report(plan.window.until)
            await self._service.complete(self.replay, self.counts)
        return state.ended

    async def _send_all(self, target: ReplayTarget, after: int) -> ReplayState:
        """Send the events after a sequence, each when it is due; return how the replay ends."""
        loop = asyncio.get_running_loop()
        plan = self.replay.plan
        events = self._history.read(
            after, plan.window.until, plan.selection.filters(), batch_events=self._traffic.batch_events
        )
        async for event in events:
            if not await self._wait_until(self._schedule.due(event.time, loop.time())):
                return self._state()
            if not await self._send(target, event):
                return self._state()
            await self._live_first.turn()
        state = self._state()
        return state if state.ended else ReplayState.COMPLETED

    async def _send(self, target: ReplayTarget, event: HistoryEvent) -> bool:
        """Pass one event to the target; return False if the replay was paused or ended while the target waited."""
        sending = asyncio.ensure_future(target.send(event))
        try:
            while not sending.done():
                await asyncio.wait([sending], timeout=_NOTICED_S)
                if not sending.done() and self._state() is not ReplayState.RUNNING:
                    return False
        finally:
            await end(sending)
        outcome = sending.result()
        assert self.counts is not None
        counted = {str(outcome): getattr(self.counts, str(outcome)) + 1}
        self.counts = self.counts.model_copy(update=counted)
        self._report(event.sequence)
        if self._failures.add(outcome) and self._state() is ReplayState.RUNNING:
            why = f"{self._failures.failed} of the last {PAUSE_WINDOW} events failed"
            try:
                await self._service.pause_by_itself(self.replay, why)
            except SaccadeError as error:
                if _is_transient(error):
                    raise
                log.info("replay %s is not paused any more: %s", self.replay.id, error)
            return False
        return True

    async def _wait_until(self, due: float) -> bool:
        """Wait until an event is due; return False if the replay was paused or ended before that."""
        loop = asyncio.get_running_loop()
        while self._state() is ReplayState.RUNNING:
            wait_s = due - loop.time()
            if wait_s <= 0:
                return True
            await self._service.records.changed(wait_s)
            self._live_first.rested()
        return False

    def _state(self) -> ReplayState:
        replay = self._service.records.get(self.replay.id)
        return replay.state if replay else ReplayState.FAILED

    def _report(self, sequence: int) -> None:
        assert self.counts is not None
        self._service.board.report(self.replay.id, ReplayProgress(sequence=sequence, counts=self.counts))


def _is_transient(error: Exception) -> bool:
    return isinstance(error, SaccadeError) and error.code in TRANSIENT
