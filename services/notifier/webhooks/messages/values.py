"""Values of an event that a user's template can name: a closed, flat table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from contracts.errors import ErrorBody
from contracts.events.base import Envelope
from contracts.events.budget import BudgetExhausted, BudgetWarned
from contracts.events.job import JobFailed, JobSubmitted, JobSucceeded
from contracts.events.rule import RuleSkipped
from contracts.events.session import SessionAlert, SessionFailed, SessionStopped, SessionText
from contracts.workload import Workload
from services.notifier.webhooks.messages.formats import SUBJECT_CHARS, TEXT_CHARS, MessageText, cut
from services.notifier.webhooks.messages.sentence import EXAMPLE_TYPE, job_headline, message_text
from services.notifier.webhooks.messages.template import TemplatePart, parse_template, render_template


@dataclass(frozen=True)
class TemplateValue:
    """Meaning of a name, and the value that a test message has."""

    meaning: str
    example: str


#: Ids of the examples: the prefix, and this.
_ID: Final = "0198c0de-0000-7000-8000-000000000000"
#: Every name that a template may have. docs/messages.md lists them; a test holds it to this table.
NAMES: Final[Mapping[str, TemplateValue]] = {
    "message": TemplateValue("The sentence that is sent without a template.", "Lap comparison failed."),
    "event.type": TemplateValue("Type of the event.", "job.failed"),
    "event.id": TemplateValue("Id of the event, the same at each attempt.", f"evt_{_ID}"),
    "event.time": TemplateValue("Time at which it happened (UTC).", "2026-11-23 09:30:05 UTC"),
    "event.subject": TemplateValue("Id of the job, session or rule that the event is about.", f"job_{_ID}"),
    "endpoint.id": TemplateValue("Id of this endpoint.", f"whk_{_ID}"),
    "endpoint.description": TemplateValue("Description of this endpoint.", "Alerts for the workshop"),
    "job.id": TemplateValue("Id of the job.", f"job_{_ID}"),
    "job.workload": TemplateValue("Name of its workload.", "lap_compare"),
    "job.title": TemplateValue("Title of its workload.", "Lap comparison"),
    "job.files": TemplateValue("Names of its input files.", "lap_1.mp4, lap_2.mp4"),
    "job.metadata": TemplateValue("Its metadata.", "car=7, track=north"),
    "job.headline": TemplateValue("Its result in a sentence, after it succeeded.", "Lap 2 is 0.42 s faster"),
    "job.cost_usd": TemplateValue("Cost of the attempt that succeeded.", "0.13"),
    "job.duration_s": TemplateValue("Duration of the attempt that succeeded, seconds.", "42"),
    "error.code": TemplateValue("Code of the error: a job or session failed, a rule made no job.", "clip_too_short"),
    "error.message": TemplateValue("What went wrong.", "It has 3 frames."),
    "error.hint": TemplateValue("What to do about it.", "Send clips of at least two seconds."),
    "session.id": TemplateValue("Id of the live session.", f"ses_{_ID}"),
    "session.text": TemplateValue("Text of the chunk.", "The cube falls."),
    "session.chunk": TemplateValue("Number of the chunk.", "7"),
    "session.cost_usd": TemplateValue("Cost of the session that has ended.", "0.02"),
    "alert.rule": TemplateValue("Name of the session's rule that has become true.", "dropped"),
    "alert.condition": TemplateValue("Its condition.", "the gripper drops the cube"),
    "alert.probability": TemplateValue("Probability that the model gives it.", "0.93"),
    "rule.id": TemplateValue("Id of the upload rule that submitted the job, or did not.", f"rul_{_ID}"),
    "rule.uploads": TemplateValue("Ids of its uploads.", f"upl_{_ID}"),
    "budget.period": TemplateValue("`day` or `month`.", "day"),
    "budget.began": TemplateValue("First day of the period (UTC).", "2026-11-23"),
    "budget.limit_usd": TemplateValue("Limit of the period.", "20.00"),
    "budget.spent_usd": TemplateValue("Spent in it so far.", "16.10"),
    "budget.reserved_usd": TemplateValue("What running jobs may cost besides.", "1.40"),
}  # fmt: skip


@dataclass(frozen=True)
class MessageEndpoint:
    """Endpoint of a message: what its template may name, and its templates."""

    id: str
    description: str = ""
    template: str | None = None
    subject: str | None = None


def compose_message(
    event: Envelope, endpoint: MessageEndpoint, workload: Workload | None = None, job: JobSubmitted | None = None
) -> MessageText:
    """Return the message about an event: by the endpoint's templates, or the event's own sentence.

    ``job`` is the submission of the event's job and ``workload`` its workload, where they are known.
    """
    plain = message_text(event, workload)
    if endpoint.template is None and endpoint.subject is None:
        return plain
    values = _values(event, plain, endpoint, workload, job)
    is_example = event.type == EXAMPLE_TYPE
    if is_example:
        values = {name: value.example for name, value in NAMES.items()} | values
    subject, text = plain.subject, plain.text
    if endpoint.subject is not None:
        subject = render_template(_parsed(endpoint.subject), values)
    if endpoint.template is not None:
        text = render_template(_parsed(endpoint.template), values)
        text = f"Test, with example values: {text}" if is_example else text
    return MessageText(cut(subject, SUBJECT_CHARS), cut(text, TEXT_CHARS))


@lru_cache(maxsize=1024)
def _parsed(template: str) -> tuple[TemplatePart, ...]:
    return parse_template(template, NAMES)


def _values(
    event: Envelope, plain: MessageText, endpoint: MessageEndpoint, workload: Workload | None, job: JobSubmitted | None
) -> dict[str, str]:
    values = {
        "event.type": event.type,
        "event.id": event.id,
        "event.time": f"{event.time:%Y-%m-%d %H:%M:%S} UTC",
        "endpoint.id": endpoint.id,
        "endpoint.description": endpoint.description,
    }
    if event.type == EXAMPLE_TYPE:
        return values
    values |= {"message": plain.text, "event.subject": event.subject} | _of_data(event, workload)
    noun = event.type.partition(".")[0]
    if noun in ("job", "session", "rule"):
        values[f"{noun}.id"] = event.subject
    if job is not None:
        values |= {
            "job.workload": job.workload,
            "job.title": workload.title if workload else job.workload,
            "job.files": _file_names(job),
            "job.metadata": ", ".join(f"{name}={value}" for name, value in job.metadata.items()),
        }
        if job.rule is not None:
            values |= {"rule.id": job.rule.rule_id, "rule.uploads": ", ".join(job.rule.upload_ids)}
    return values


def _file_names(job: JobSubmitted) -> str:
    if job.input_ids:
        return f"{len(job.used_uploads)} files"
    return ", ".join(file.filename for files in job.inputs.values() for file in files)


def _of_data(event: Envelope, workload: Workload | None) -> dict[str, str]:
    try:
        data: object = event.parsed()
    except (KeyError, ValueError):  # an event of a newer version
        return {}
    match data:
        case JobSucceeded():
            return {
                "job.headline": job_headline(data, workload),
                "job.cost_usd": f"{data.cost.usd:.2f}",
                "job.duration_s": f"{data.duration_s:.0f}",
            }
        case JobFailed():
            return _of_error(data.error)
        case SessionFailed():
            return {**_of_error(data.error), "session.cost_usd": f"{data.cost_usd:.2f}"}
        case SessionStopped():
            return {"session.cost_usd": f"{data.cost_usd:.2f}"}
        case SessionText():
            return {"session.text": data.text, "session.chunk": str(data.chunk)}
        case SessionAlert():
            return {
                "session.text": data.text,
                "session.chunk": str(data.chunk),
                "alert.rule": data.rule,
                "alert.condition": data.condition,
                "alert.probability": f"{data.confidence:.2f}",
            }
        case RuleSkipped():
            return {**_of_error(data.error), "rule.uploads": ", ".join(data.upload_ids)}
        case BudgetWarned() | BudgetExhausted():
            return {
                "budget.period": data.period,
                "budget.began": str(data.began),
                "budget.limit_usd": f"{data.limit_usd:.2f}",
                "budget.spent_usd": f"{data.spent_usd:.2f}",
                "budget.reserved_usd": f"{data.reserved_usd:.2f}",
            }
    return {}


def _of_error(error: ErrorBody) -> dict[str, str]:
    return {"error.code": str(error.code), "error.message": error.message, "error.hint": error.hint}
