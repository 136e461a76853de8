"""Reaction to a completed upload: the jobs that its tenant's rules want of it.

A reaction (docs/adr/0020): any dispatcher handles an event, an error is tried again, and what stays impossible becomes
a dead letter, at once where another attempt cannot help. However often an event is handled, each rule makes one job of
it (docs/adr/0021).
"""

from __future__ import annotations

from typing import Annotated, Final

from nats.errors import Error as NatsError
from saccade_events import Context, Event, Reactions, Reject, RetryPolicy

from contracts.errors import SaccadeError
from contracts.events.upload import UploadCompleted
from services.dispatcher.rules.submission import TEMPORARY
from services.dispatcher.rules.upload_rules import UploadRules

reactions: Final = Reactions("dispatcher")
#: Handling takes milliseconds. Events that a killed dispatcher was handling are redelivered after ``ack_wait_s`` and
#: occupy ``concurrency``, which all dispatchers share, until then: it is larger than one needs.
#: Attempts span 1.5 h: a full bus refuses good uploads, and each restart counts as one. An event that waits for its
#: next attempt occupies a place too.
_RETRY: Final = RetryPolicy(maximum_attempts=100, initial_interval_s=1, maximum_interval_s=60, ack_wait_s=5)
_CONCURRENCY: Final = 16


@reactions.on(UploadCompleted, _RETRY, concurrency=_CONCURRENCY)
async def completed(event: Event[UploadCompleted], upload_rules: Annotated[UploadRules, Context()]) -> None:
    """Apply the tenant's rules to the upload."""
    try:
        await upload_rules.apply(event.tenant, event.subject, event.sequence, event.traceparent)
    except SaccadeError as error:
        if error.code not in TEMPORARY:
            raise Reject(str(error)) from error
        raise
    except (NatsError, OSError, TimeoutError):
        raise
    except Exception as error:
        # A fault of ours: it would fail again, and keep a place from good uploads of all tenants until it is given up.
        raise Reject(f"{type(error).__name__}: {error}") from error
