"""Rules of a job's lifecycle from the dispatcher's settings. No I/O."""

from __future__ import annotations

from services.dispatcher.attempts.liveness import Timeouts
from services.dispatcher.attempts.retry import AttemptPolicy
from services.dispatcher.lifecycle.lifecycle import STOP_S, LifecycleRules
from services.dispatcher.settings import DispatcherSettings


def lifecycle_rules(settings: DispatcherSettings) -> LifecycleRules:
    """Return the rules of a job's lifecycle from the settings."""
    return LifecycleRules(
        timeouts=Timeouts(
            find_s=settings.find_s,
            silent_s=settings.silent_s,
            reaction_s=STOP_S + settings.poll_s,
            gpu_notice_s=settings.queue.gpu_notice_s,
            next_gpu_after_s=settings.queue.gpu_climb_s,
        ),
        retry_policy=AttemptPolicy(settings.backoff_s, settings.backoff_max_s, settings.queue.throttled_s),
        poll_s=settings.poll_s,
    )
