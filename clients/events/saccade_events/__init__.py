"""Reactions to Saccade's events: each event is handled until it is done, retried later and later, else kept aside.

``Reactions`` declares handlers, ``Bus`` runs them on a NATS connection, ``run`` is a whole service.
"""

from faststream import Context

from saccade_events.bus import Bus
from saccade_events.commands import Commands, Router
from saccade_events.errors import ConsumerMissing, Reject, StreamReplaced
from saccade_events.event import Event
from saccade_events.observer import Observer, Outcome
from saccade_events.reactions import Reaction, Reactions
from saccade_events.retry_policy import RetryPolicy
from saccade_events.service import run, serve

__all__ = [
    "Bus",
    "Commands",
    "ConsumerMissing",
    "Context",
    "Event",
    "Observer",
    "Outcome",
    "Reaction",
    "Reactions",
    "Reject",
    "RetryPolicy",
    "Router",
    "StreamReplaced",
    "run",
    "serve",
]
