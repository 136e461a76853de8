"""Events as sentences for people: what happened, and what to do about it. Pure."""

from __future__ import annotations

from typing import Final

from contracts.events.base import Envelope
from contracts.events.budget import BudgetExhausted, BudgetWarned, PeriodKind
from contracts.events.delivery import WebhookDisabled
from contracts.events.job import JobCancelled, JobFailed, JobSucceeded
from contracts.events.rule import RuleSkipped
from contracts.events.session import SessionAlert, SessionFailed, SessionStopped, SessionText
from contracts.workload import Workload
from services.notifier.webhooks.messages.formats import SUBJECT_CHARS, TEXT_CHARS, MessageText, cut

#: Type of the example that a user sends to test an endpoint.
EXAMPLE_TYPE: Final = "webhook.test"
_BUDGETS: Final[dict[PeriodKind, str]] = {"day": "daily", "month": "monthly"}
_DISABLED: Final = {
    "gone": "it answered 410 (gone)",
    "failing": "every attempt has failed for five days",
}


def message_text(event: Envelope, workload: Workload | None = None) -> MessageText:
    """Return an event in one or two sentences; ``workload`` is that of its job, where it is known."""
    try:
        data: object = event.parsed()
    except (KeyError, ValueError):  # an event of a newer version, or a test
        data = None
    match data:
        case JobSucceeded() | JobFailed() | JobCancelled():
            subject, text = _of_job(event, data, workload)
        case SessionAlert() | SessionText() | SessionStopped() | SessionFailed():
            subject, text = _of_session(event, data)
        case RuleSkipped():
            count = len(data.upload_ids)
            uploads = "an upload" if count == 1 else f"{count} uploads"
            subject = "An upload rule submitted no job"
            text = (
                f"{subject} for {uploads}: {data.error.message} {data.error.hint} "
                f"({event.subject}, {', '.join(data.upload_ids)})"
            )
        case BudgetWarned() | BudgetExhausted():
            subject, text = _of_budget(data)
        case WebhookDisabled():
            subject = "A webhook endpoint was disabled"
            text = (
                f"{subject} because {_DISABLED[data.reason]}: {data.endpoint_id} gets no more events. Repair its "
                f"receiver, then enable it: saccade webhooks enable {data.endpoint_id}"
            )
        case _ if event.type == EXAMPLE_TYPE:
            subject = "Test message of Saccade"
            text = f"This is a test: messages of the endpoint {event.subject} arrive here. Nothing needs to be done."
        case _:
            subject = f"{event.type} of {event.subject}"
            text = f"{subject} at {event.time:%H:%M:%S} UTC."
    return MessageText(cut(subject, SUBJECT_CHARS), cut(text, TEXT_CHARS))


def job_headline(data: JobSucceeded, workload: Workload | None) -> str:
    """Return a result in one sentence without a full stop; empty where its workload has none."""
    if workload is None:
        return ""
    try:
        return workload.headline(workload.result.model_validate(data.result))
    except ValueError:  # a result of another version
        return ""


def _of_job(
    event: Envelope, data: JobSucceeded | JobFailed | JobCancelled, workload: Workload | None
) -> tuple[str, str]:
    name = workload.title if workload else "Job"
    match data:
        case JobSucceeded():
            headline = job_headline(data, workload)
            ends = f": {headline}" if headline else ""
            return f"{name} finished", f"{name} finished{ends}. {event.subject}, {data.cost.usd:.2f} USD."
        case JobFailed():
            return f"{name} failed", f"{name} failed: {data.error.message} {data.error.hint} ({event.subject})"
    return f"{name} was cancelled", f"{name} was cancelled ({event.subject})."


def _of_session(event: Envelope, data: SessionAlert | SessionText | SessionStopped | SessionFailed) -> tuple[str, str]:
    match data:
        case SessionAlert():
            subject = f"Alert {data.rule}: {data.condition}"
            return subject, (
                f"{subject}. Seen at {event.time:%H:%M:%S} UTC with probability {data.confidence:.2f}: "
                f'"{data.text}" ({event.subject}, chunk {data.chunk})'
            )
        case SessionText():
            return "Text of a live session", f"{data.text} ({event.subject}, chunk {data.chunk})"
        case SessionFailed():
            return "A live session failed", (f"Session {event.subject} failed: {data.error.message} {data.error.hint}")
    figures = f"{data.totals.accepted} frames, {data.cost_usd:.2f} USD"
    return "A live session has ended", f"Session {event.subject} has ended: {figures}."


def _of_budget(data: BudgetWarned | BudgetExhausted) -> tuple[str, str]:
    kind = _BUDGETS[data.period]
    period = f"{data.began:%Y-%m}" if data.period == "month" else f"{data.began}"
    figures = f"{data.spent_usd:.2f} of {data.limit_usd:.2f} USD"
    reserved = f", and running jobs may cost {data.reserved_usd:.2f} USD more" if data.reserved_usd else ""
    if isinstance(data, BudgetWarned):
        subject = f"The {kind} budget is {data.warn_share:.0%} spent"
        return subject, (
            f"{subject}: {figures} in {period} (UTC){reserved}. At the limit new jobs are refused: raise the budget "
            "with PUT /v1/budgets, or cancel jobs that you do not need."
        )
    subject = f"The {kind} budget is exhausted"
    refused = f" The job {data.job_id} was refused or stopped." if data.job_id else ""
    return subject, (
        f"{subject}: {figures} in {period} (UTC){reserved}. New jobs are refused until the {data.period} ends.{refused}"
        " Raise the budget with PUT /v1/budgets, or wait."
    )
