"""Small changes to the dispatcher's decisions, each of which a what-if must find: a table of source changes.

A change replaces a piece of one function's source. It is applied to the function itself, so that every module that
has imported it decides by it.
"""

# ruff: noqa: E501 - a row is a line

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final

_RETRY: Final = "services.dispatcher.attempts.retry"
_LIVENESS: Final = "services.dispatcher.attempts.liveness"
_COST: Final = "services.dispatcher.costs.attempt_cost"
_PRICES: Final = "services.dispatcher.costs.price_list"
_QUEUE: Final = "services.dispatcher.scheduling.fair_queue"
_PLAN: Final = "services.dispatcher.pipelines.stage_plan"
_PIPELINE: Final = "services.dispatcher.pipelines.pipeline_lifecycle"
_LIFECYCLE: Final = "services.dispatcher.lifecycle.lifecycle"
_LAUNCHER: Final = "services.dispatcher.lifecycle.launcher"
_BUDGET: Final = "contracts.budget"
_SPENDING: Final = "contracts.spending"


@dataclass(frozen=True)
class SeededChange:
    """One change: in a function of a module, this piece of source becomes that one."""

    module: str
    function: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module.rpartition('.')[2]}.{self.function}: {self.before} -> {self.after}"


CHANGES: Final = tuple(
    SeededChange(*row)
    for row in (
        # Retries and backoff.
        (_RETRY, "decide_retry", "attempt.number >= attempt.maximum_attempts", "attempt.number > attempt.maximum_attempts"),
        (_RETRY, "decide_retry", "not in RETRYABLE_FAILURES:", "not in RETRYABLE_FAILURES - {'preempted'}:"),
        (_RETRY, "decide_retry", "not in RETRYABLE_FAILURES:", "not in RETRYABLE_FAILURES - {'lost'}:"),
        (_RETRY, "decide_retry", "not in RETRYABLE_FAILURES:", "not in RETRYABLE_FAILURES - {'not_started'}:"),
        (_RETRY, "decide_retry", "not in RETRYABLE_FAILURES:", "not in RETRYABLE_FAILURES - {'out_of_memory'}:"),
        (_RETRY, "decide_retry", "not in RETRYABLE_FAILURES:", "not in RETRYABLE_FAILURES | {'timed_out'}:"),
        (_RETRY, "decide_retry", "attempt.failure in CLIMBING_FAILURES", "attempt.failure == 'no_gpu'"),
        (_RETRY, "decide_retry", "attempt.failure in CLIMBING_FAILURES", "attempt.failure == 'out_of_memory'"),
        (_RETRY, "decide_retry", "else attempt.rung", "else 0"),
        (_RETRY, "decide_retry", "delay_s = 0.0", "delay_s = 1.0"),
        (_RETRY, "decide_retry", "(1.0 + 0.5 * jitter)", "(1.0 + 0.25 * jitter)"),
        (_RETRY, "decide_retry", "policy.delay_s(attempt.number, jitter)", "policy.delay_s(attempt.number + 1, jitter)"),
        (_RETRY, "decide_retry", "attempt.failure not in UNCOUNTED_FAILURES", "attempt.failure != 'throttled'"),
        (_RETRY, "decide_retry", "attempt.has_ladder and attempt.next_rung is None", "attempt.has_ladder and False"),
        (_RETRY, "AttemptPolicy.delay_s", "(0.5 + 0.5 * jitter)", "(0.6 + 0.4 * jitter)"),
        (_RETRY, "AttemptPolicy.delay_s", "self.backoff_coefficient**exponent", "1.5**exponent"),
        (_RETRY, "decide_retry", ">= attempt.deadline", ">= attempt.deadline + timedelta(hours=1)"),
        ("contracts.job", "retry", "job.first_attempt + (after in UNCOUNTED_FAILURES)", "job.first_attempt"),
        # Watching attempts.
        (_LIVENESS, "check_liveness", "compute.timeout_s, now", "compute.timeout_s * 1.2, now"),
        (_LIVENESS, "check_liveness", "compute.timeout_s, now", "compute.timeout_s * 0.5, now"),
        (_LIVENESS, "check_liveness", "will_exceed_cap(job, now, timeouts.reaction_s)", "will_exceed_cap(job, now, 0.0)"),
        (_LIVENESS, "check_liveness", "if observation.over_budget:", "if False:"),
        (_LIVENESS, "check_liveness", "observation.silent_s >= timeouts.silent_s", "observation.silent_s >= 2 * timeouts.silent_s"),
        (_LIVENESS, "check_liveness", "observation.silent_s >= timeouts.silent_s", "observation.silent_s >= 0.4 * timeouts.silent_s"),
        (_LIVENESS, "check_liveness", "if job.deadline and now", "if job.deadline and job.started_at and now"),
        (_LIVENESS, "_check_gpu_queue", "notice_s = 2 * (", "notice_s = 3 * ("),
        (_LIVENESS, "_check_gpu_queue", "notice_s = timeouts.gpu_notice_s", "notice_s = 2 * timeouts.gpu_notice_s"),
        (_LIVENESS, "_check_gpu_queue", "timeouts.next_gpu_after_s, now", "timeouts.next_gpu_after_s * 1.3, now"),
        (_LIVENESS, "_check_gpu_queue", "if observation.next_device and", "if True and"),
        (_LIFECYCLE, "Lifecycle._cancel", "current.state is not State.RUNNING", "current.state is State.RUNNING"),
        (_LIFECYCLE, "Lifecycle._wait_or_start", "if job.deadline and now >= job.deadline", "if False"),
        ("services.dispatcher.attempts.recovered_result", "recovered_result", "job.run_id is None or", "True or"),
        # Costs, caps and prices.
        (_COST, "billed_seconds", "job.billed_since or job.started_at", "job.started_at"),
        (_COST, "recovered_cost", "startup_seconds(job) + duration_s", "duration_s"),
        ("contracts.cost_settlement", "settled_cost", "round(seconds * usd_per_s, 6)", "round(seconds * usd_per_s, 2)"),
        (_COST, "reservation_usd", "max(_MINIMUM_WORK_S * usd_per_s", "max(60 * usd_per_s"),
        (_COST, "reservation_usd", "job.submitted.estimated_usd if left is None else left", "job.submitted.estimated_usd"),
        (_COST, "is_affordable", "usd_per_s * minimum_s <= left", "usd_per_s * 30 * minimum_s <= left"),
        ("services.dispatcher.costs.pipeline_cost", "total_cost", "for cost in job.costs.values()", "for cost in list(job.costs.values())[-1:]"),
        (_PRICES, "PriceList.usd_per_s", "self._account_prices[device]", "self._account_prices[device] * 1.01"),
        (_PRICES, "PriceList.rung", "min(number, len(devices) - 1)", "max(0, min(number, len(devices) - 1) - 1)"),
        (_PRICES, "PriceList.next_affordable_rung", "attempt_cost.is_affordable(job, rung.usd_per_s)", "True"),
        (_LAUNCHER, "Launcher.start", "job.attempt + 1", "job.attempt + 2"),
        # Fairness and limits.
        (_QUEUE, "_rank", "-candidate.priority", "candidate.priority"),
        (_QUEUE, "_rank", "candidate.age", "-candidate.age"),
        (_QUEUE, "FairQueue._turn", "self._of_tenant[tenant]", "-self._of_tenant[tenant]"),
        (_QUEUE, "FairQueue._first_turn", "turn[0] < self.limits.tenant", "turn[0] <= self.limits.tenant"),
        (_QUEUE, "FairQueue.take", ">= self.limits.workload", ">= self.limits.workload - 1"),
        (_QUEUE, "FairQueue.take", ">= self.limits.slots", ">= self.limits.slots - 1"),
        # Budgets.
        (_BUDGET, "refusal", "> limit:", "> 1.5 * limit:"),
        (_BUDGET, "refusal", "> limit:", "> 0.7 * limit:"),
        (_BUDGET, "notices", "spent >= limits.warn_share * limit", "spent >= 0.95 * limit"),
        (_SPENDING, "Account._held_usd", "max(attempt.held_usd, attempt.metered_usd(now))", "attempt.metered_usd(now)"),
        # Pipelines.
        (_PLAN, "_reason_to_end", "if failed:", "if failed and pipeline.cancel_requested:"),
        (_PLAN, "_submit_or_wait", "remaining_usd * _MICRO / len(snapshot.jobs)", "remaining_usd * _MICRO"),
        (_PLAN, "next_action", "snapshot.stage.name not in published.completed", "False"),
        (_PIPELINE, "PipelineLifecycle._submit", "priority=submitted.priority", "priority=0"),
        (_PIPELINE, "PipelineLifecycle._submit", "deadline=job.deadline or submitted.deadline", "deadline=submitted.deadline"),
    )
)  # fmt: skip


@contextmanager
def applied(change: SeededChange) -> Iterator[None]:
    """Apply a change for a while."""
    module = importlib.import_module(change.module)
    source = inspect.getsource(module)
    function: Any = module
    for name in change.function.split("."):
        function = inspect.getattr_static(function, name)
    function = getattr(function, "__func__", function)
    lines, first = inspect.getsourcelines(function)
    own = "".join(lines)
    assert own.count(change.before) >= 1, f"{change}: the source has changed; change the table"
    changed = own.replace(change.before, change.after)
    assert changed != own
    whole = source.split("\n")
    whole[first - 1 : first - 1 + len(lines)] = changed.rstrip("\n").split("\n")
    code = _find(compile("\n".join(whole), module.__file__ or "", "exec"), change.function)
    before = function.__code__
    function.__code__ = code
    try:
        yield
    finally:
        function.__code__ = before


def _find(code: CodeType, qualname: str) -> CodeType:
    """Return the code of a function within the code of its module."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_qualname == qualname:
                return constant
            if qualname.startswith(f"{constant.co_qualname}."):
                return _find(constant, qualname)
    raise LookupError(qualname)
