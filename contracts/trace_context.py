"""Trace context of an event or a request, as text: ``00-<trace id>-<span id>-<flags>``.

Every event that follows from one request has its trace id. Source: W3C Trace Context, level 1, ``traceparent``.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextvars import ContextVar
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MAX_CHARACTERS: Final = 200
_SAMPLED: Final = 1

#: Context of what this task or thread does now; events that it encodes get it, unless they are given another one.
CURRENT: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)


class TraceContext(NamedTuple):
    """A trace, and the span in it that caused what carries this context."""

    trace_id: str
    span_id: str
    flags: int = 0

    def __str__(self) -> str:
        """Return it as ``traceparent``."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def child(self, span_id: str, *, sampled: bool = False) -> TraceContext:
        """Return the context of a span below this one."""
        return TraceContext(self.trace_id, span_id, self.flags | _SAMPLED if sampled else self.flags)


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return the context in a ``traceparent``; None if it is not valid."""
    if text is None or len(text) > _MAX_CHARACTERS or (found := _TRACEPARENT.fullmatch(text)) is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    # Of the flags only the first is defined; what a later version means by the others must not be passed on.
    return TraceContext(trace_id, span_id, int(flags, 16) & _SAMPLED)


def current_traceparent() -> str | None:
    """Return the context of what is done now; None outside of every trace."""
    return CURRENT.get()


def new_span_id() -> str:
    """Return a random id of a span."""
    return os.urandom(8).hex()


def new_trace() -> TraceContext:
    """Return the context of a new trace, which nobody records so far."""
    random = os.urandom(24).hex()
    return TraceContext(random[:32], random[32:])


def run_span_id(run_id: str) -> str:
    """Return the span id of a worker's run: the same in every process that knows the run."""
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def context_of_run(traceparent: str | None, run_id: str) -> str | None:
    """Return the context of a run's events, given that of its job; None for a job without a trace."""
    context = parse_traceparent(traceparent)
    return str(context.child(run_span_id(run_id))) if context else None


def context_within(traceparent: str | None) -> str | None:
    """Return the context of what is done now if it belongs to the trace of ``traceparent``, else ``traceparent``.

    A task may have been started in the context of another job, and outlive what it was started for.
    """
    current = CURRENT.get()
    # The trace id is at the same place in all of them.
    return current if current and traceparent and current[3:35] == traceparent[3:35] else traceparent
