"""Acts on replays: plan, start, pause, resume, cancel, end; each is recorded before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from contracts.audit import Act, Attribution
from contracts.commands import COMMAND_S
from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.replay import (
    LARGE_EVENTS,
    NOUN,
    PLANNED_PER_TENANT,
    RUNNING_PER_TENANT,
    Replay,
    ReplayCounts,
    ReplayPlan,
    ReplayState,
    too_many_running,
)
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.recorded_act import Perform, recorded
from services.notifier.replays.plan_turns import PlanTurns
from services.notifier.replays.planner import ReplayPlanner, ReplayRequest
from services.notifier.replays.progress import ProgressBoard
from services.notifier.replays.records import ReplayRecords
from services.notifier.replays.target import WantedReplay

#: Who acts when the notifier itself does.
_NOTIFIER: Final = "notifier"
#: States in which a replay can be started, paused, and so on.
_ALLOWED: Final = {
    "started": frozenset({ReplayState.PLANNED}),
    "paused": frozenset({ReplayState.RUNNING}),
    "resumed": frozenset({ReplayState.PAUSED}),
    "cancelled": frozenset({ReplayState.PLANNED, ReplayState.RUNNING, ReplayState.PAUSED}),
}


@dataclass(frozen=True)
class ReplayCaller:
    """Caller of a route."""

    tenant: str
    #: Id of the API key, and whether the server has checked it.
    by: str
    by_verified: bool
    #: Whether the key has the scope ``operate``.
    operates: bool
    #: Whether the caller reaches every tenant.
    across_tenants: bool
    request_id: str

    def attribution(self, why: str) -> Attribution:
        """Return who and why, for the audit log."""
        return Attribution(by=self.by, by_verified=self.by_verified, why=why, request_id=self.request_id)


class ReplayService:
    """Acts on the replays of a tenant."""

    def __init__(
        self,
        records: ReplayRecords,
        planner: ReplayPlanner,
        board: ProgressBoard,
        idempotency: Idempotency,
        now: Callable[[], datetime],
    ) -> None:
        """Keep the state in ``records``."""
        self.records = records
        self.board = board
        self.planner = planner
        self.now = now
        self._idempotency = idempotency
        self._planning = PlanTurns()

    def get(self, caller: ReplayCaller, replay_id: str) -> Replay:
        """Return a replay that the caller may see.

        Raises:
            SaccadeError: REPLAY_NOT_FOUND.
        """
        replay = self.records.get(replay_id)
        if replay is None or not (caller.across_tenants or replay.tenant == caller.tenant):
            raise SaccadeError(ErrorCode.REPLAY_NOT_FOUND, f"There is no replay {replay_id[:80]!r}.")
        return replay

    def page(
        self, caller: ReplayCaller, tenant: str | None, state: ReplayState | None, before: int | None, limit: int
    ) -> tuple[list[Replay], int | None]:
        """Return replays of a tenant, or of all with None, the newest first, and where the next page begins.

        Positions are in the order of planning, which does not change.
        """
        now = self.now()
        wanted = [
            (place, replay)
            for place, replay in self.records.numbered()
            if (before is None or place < before)
            and (tenant is None or replay.tenant == tenant)
            and (caller.across_tenants or replay.tenant == caller.tenant)
            and (state is None or replay.state_at(now) is state)
        ]
        page = wanted[::-1][:limit]
        following = page[-1][0] if len(wanted) > limit else None
        return [replay for _, replay in page], following

    async def plan(self, caller: ReplayCaller, wanted: ReplayRequest, why: str, key: IdempotencyKey | None) -> Replay:
        """Plan a replay; with the same key the same one.

        Raises:
            SaccadeError: INVALID_PARAMETER, FORBIDDEN, IDEMPOTENCY_KEY_REUSED, BUS_UNAVAILABLE; what the target says.
        """
        if key is None:
            async with self._planning.turn(caller.tenant, alone=False):
                return await self._plan(caller, wanted, why, new_id("rpl"))
        async with self._planning.turn(caller.tenant, alone=True):
            replay_id = await self._idempotency.recall(key) or new_id("rpl")
            await self.records.catch_up()
            if (known := self.records.get(replay_id)) is not None:
                return known
            return await self._plan(caller, wanted, why, replay_id, key)

    async def _plan(
        self, caller: ReplayCaller, wanted: ReplayRequest, why: str, replay_id: str, key: IdempotencyKey | None = None
    ) -> Replay:
        self._check_open_plans(caller.tenant)
        plan = await self.planner.plan(replay_id, caller.tenant, wanted)
        _check_rights(caller, plan, why)
        if key is not None and (claimed := await self._idempotency.claim(key, replay_id)) != replay_id:
            replay_id = claimed
            await self.records.catch_up()
            if (known := self.records.get(replay_id)) is not None:
                return known

        async def planned() -> dict[str, Any]:
            return {"plan": plan.model_dump(mode="json")}

        act = Act(caller.tenant, NOUN, replay_id, {"into": str(plan.into), "count": plan.count})
        await recorded(self.records.audit, caller.attribution(why), act, verb="plan", done="planned", perform=planned)
        await self.records.tell()
        return self.get(caller, replay_id)

    def _check_open_plans(self, tenant: str) -> None:
        now = self.now()
        waiting = [
            replay.id
            for replay in self.records.all()
            if replay.tenant == tenant and replay.state_at(now) is ReplayState.PLANNED
        ]
        if len(waiting) >= PLANNED_PER_TENANT:
            raise SaccadeError(
                ErrorCode.TOO_MANY_REPLAYS,
                f"{len(waiting)} plans of {tenant} wait to be started.",
                hint="Start or cancel one; a plan expires by itself after an hour.",
                planned=waiting,
            )

    async def start(self, caller: ReplayCaller, replay_id: str, expected_count: int, why: str) -> Replay:
        """Start a planned replay, if it has as many events as the caller expects; a running one stays as it is.

        Raises:
            SaccadeError: REPLAY_NOT_FOUND, REPLAY_COUNT_DIFFERS, REPLAY_STATE_CONFLICT, TOO_MANY_REPLAYS, FORBIDDEN;
                what the target says; BUS_UNAVAILABLE.
        """
        replay = self.get(caller, replay_id)
        if expected_count != replay.plan.count:
            raise SaccadeError(
                ErrorCode.REPLAY_COUNT_DIFFERS,
                f"The replay has {replay.plan.count} events, not {expected_count}.",
                count=replay.plan.count,
            )
        if replay.state is ReplayState.RUNNING:
            return replay
        self._require(replay, "started")
        _check_rights(caller, replay.plan, why or replay.why)

        async def allowed() -> dict[str, Any]:
            plan = replay.plan
            self.check_branch(replay)
            await self.planner.check(
                WantedReplay(replay.id, replay.tenant, plan.into, plan.selection, plan.window, plan.pace)
            )
            await self.records.catch_up()
            current = self.get(caller, replay_id)
            self._require(current, "started")
            before = max((at for at, _ in current.starting.values()), default=current.sequence)
            others = [other for other in self.records.all() if other.id != replay_id]
            if too_many_running(others, replay.tenant, before, self.now(), COMMAND_S):
                raise SaccadeError(
                    ErrorCode.TOO_MANY_REPLAYS,
                    f"{RUNNING_PER_TENANT} replays of {replay.tenant} are running or paused.",
                    running=[
                        other.id for other in others if other.tenant == replay.tenant and other.occupies(self.now())
                    ],
                )
            return {"count": plan.count}

        return await self._act(caller, replay, ("start", "started"), why or replay.why, allowed)

    async def pause(self, caller: ReplayCaller, replay_id: str, why: str) -> Replay:
        """Pause a running replay; a paused one stays as it is.

        Raises:
            SaccadeError: REPLAY_NOT_FOUND, REPLAY_STATE_CONFLICT, BUS_UNAVAILABLE.
        """
        return await self._move_to(ReplayState.PAUSED, caller, replay_id, ("pause", "paused"), why)

    async def resume(self, caller: ReplayCaller, replay_id: str, why: str) -> Replay:
        """Resume a paused replay; a running one stays as it is.

        Raises:
            SaccadeError: REPLAY_NOT_FOUND, REPLAY_STATE_CONFLICT, FORBIDDEN, BUS_UNAVAILABLE.
        """
        replay = self.get(caller, replay_id)
        if replay.state is ReplayState.RUNNING:
            return replay
        _check_rights(caller, replay.plan, why or replay.why)
        return await self._move(caller, replay, ("resume", "resumed"), why)

    async def cancel(self, caller: ReplayCaller, replay_id: str, why: str) -> Replay:
        """End a replay before its last event; a cancelled one stays as it is.

        Raises:
            SaccadeError: REPLAY_NOT_FOUND, REPLAY_STATE_CONFLICT, BUS_UNAVAILABLE.
        """
        return await self._move_to(ReplayState.CANCELLED, caller, replay_id, ("cancel", "cancelled"), why)

    async def _move_to(
        self, state: ReplayState, caller: ReplayCaller, replay_id: str, verbs: tuple[str, str], why: str
    ) -> Replay:
        """Move a replay into a state, unless it has it."""
        replay = self.get(caller, replay_id)
        return replay if replay.state is state else await self._move(caller, replay, verbs, why)

    def check_branch(self, replay: Replay) -> None:
        """Check that the window still is what it was when it was planned.

        Raises:
            SaccadeError: HISTORY_EXPIRED: the stream was restored to an older point, and has other events there.
        """
        self.planner.check_branch(replay.plan.window)

    async def pause_by_itself(self, replay: Replay, why: str) -> None:
        """Pause a replay that fails too often.

        Raises:
            SaccadeError: REPLAY_STATE_CONFLICT, BUS_UNAVAILABLE.
        """
        await self._move(_itself(replay), replay, ("pause", "paused"), why)

    async def complete(self, replay: Replay, counts: ReplayCounts) -> None:
        """Record that a replay has sent everything.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        await self._end(replay, "completed", "every event was sent", {"counts": counts.model_dump()})

    async def fail(self, replay: Replay, counts: ReplayCounts | None, error: SaccadeError) -> None:
        """Record that a replay cannot go on.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        details: dict[str, Any] = {"error": error.body().model_dump(mode="json")}
        if counts is not None:
            details["counts"] = counts.model_dump()
        await self._end(replay, "failed", error.message, details)

    async def _end(self, replay: Replay, done: str, why: str, details: dict[str, Any]) -> None:
        async def ended() -> dict[str, Any]:
            return details

        current = self.records.get(replay.id)
        if current is not None and not current.state.ended:
            await self._act(_itself(replay), replay, ("end", done), why, ended)

    async def _move(self, caller: ReplayCaller, replay: Replay, verbs: tuple[str, str], why: str) -> Replay:
        _, done = verbs
        self._require(replay, done)

        async def still_allowed() -> dict[str, Any]:
            await self.records.catch_up()
            self._require(self.get(caller, replay.id), done)
            progress = self.board.newest(replay.id)
            return {"counts": progress.counts.model_dump()} if progress else {}

        return await self._act(caller, replay, verbs, why, still_allowed)

    async def _act(
        self, caller: ReplayCaller, replay: Replay, verbs: tuple[str, str], why: str, perform: Perform
    ) -> Replay:
        """Carry out ``verbs``, as asked for and as done, between two records."""
        verb, done = verbs
        act = Act(replay.tenant, NOUN, replay.id)
        try:
            await recorded(self.records.audit, caller.attribution(why), act, verb=verb, done=done, perform=perform)
        finally:
            await self.records.tell()
        return self.get(caller, replay.id)

    def _require(self, replay: Replay, done: str) -> None:
        state = replay.state_at(self.now())
        if state not in _ALLOWED[done]:
            raise SaccadeError(
                ErrorCode.REPLAY_STATE_CONFLICT,
                f"A replay that is {state} cannot be {done}.",
                state=str(state),
            )


def _itself(replay: Replay) -> ReplayCaller:
    return ReplayCaller(
        tenant=replay.tenant,
        by=_NOTIFIER,
        by_verified=True,
        operates=True,
        across_tenants=True,
        request_id=replay.request_id,
    )


def _check_rights(caller: ReplayCaller, plan: ReplayPlan, why: str) -> None:
    """Check that the caller may replay so much, and says why.

    Raises:
        SaccadeError: FORBIDDEN, INVALID_PARAMETER.
    """
    if not plan.needs_operate:
        return
    limit = f"more than {LARGE_EVENTS} events, several tenants or a sandbox"
    if not caller.operates:
        raise SaccadeError(
            ErrorCode.FORBIDDEN,
            f"A replay of {limit} needs an API key with the scope 'operate'; this one has {plan.count} events.",
            hint="Choose a smaller window, or ask an operator.",
        )
    if not why.strip():
        message = f"A replay of {limit} needs a reason."
        errors = [{"detail": message, "pointer": "#/why"}]
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Send why.", errors=errors)
