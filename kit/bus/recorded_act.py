"""Carries out an act between two records: its intent before, its outcome after, whatever happens in between."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from contracts.audit import Act, Attribution, AuditRecord
from contracts.commands import COMMAND_S
from contracts.errors import ErrorCode, SaccadeError
from kit.bus.audit_log import AuditLog

log = logging.getLogger(__name__)

#: Time for an act: its outcome is recorded before the intent counts as abandoned.
_PERFORM_S: Final = COMMAND_S - 5
#: Does what was asked, and returns what came of it.
Perform = Callable[[], Awaitable[dict[str, Any]]]


async def _nothing() -> dict[str, Any]:
    return {}


async def recorded(
    audit: AuditLog, attribution: Attribution, act: Act, *, verb: str, done: str, perform: Perform = _nothing
) -> AuditRecord:
    """Record ``<verb>_requested``, perform, record ``<done>`` or ``<verb>_failed``; return the outcome.

    Without ``perform`` the outcome is the act itself: its record is the state. A process that is killed in between
    leaves an intent without an outcome (abandoned_commands.py).

    Raises:
        SaccadeError: what ``perform`` raised; TIMED_OUT, if the command was given up meanwhile; or BUS_UNAVAILABLE,
            before anything was done or after it.
    """
    intent = await audit.intent(act, f"{verb}_requested", attribution)
    try:
        async with asyncio.timeout(_PERFORM_S):
            details = await perform()
    except Exception as error:
        failure = error if isinstance(error, SaccadeError) else _as_failure(error)
        if not isinstance(error, SaccadeError):
            log.exception("%s of %s %s failed", verb, act.noun, act.id)
        await audit.outcome(intent, f"{verb}_failed", {"error": failure.body().model_dump(mode="json")})
        if failure is error:
            raise
        raise failure from error
    outcome = await audit.outcome(intent, done, details)
    if outcome.verb != done:
        # Another dispatcher took this one for dead. Its record is the state, so this is not what was asked for.
        raise SaccadeError(
            ErrorCode.TIMED_OUT,
            f"The command took so long that it was given up: {outcome.noun}.{outcome.verb}, record {outcome.sequence}.",
            hint=f"`saccade audit --request {attribution.request_id}` shows it. Send the command again.",
        )
    return outcome


def _as_failure(error: Exception) -> SaccadeError:
    if isinstance(error, TimeoutError):
        return SaccadeError(ErrorCode.TIMED_OUT, f"It took longer than {_PERFORM_S:.0f} s.", hint="Try again.")
    return SaccadeError(ErrorCode.INTERNAL, f"{type(error).__name__}: {error}")
