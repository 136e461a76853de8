"""Values of events for users' templates: each name has one, and the message is escaped for its channel."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import Envelope, EventData, decode, encode
from contracts.events.budget import BudgetExhausted, BudgetWarned
from contracts.events.job import Cost, JobFailed, JobInput, JobSubmitted, JobSucceeded
from contracts.events.rule import JobRule, RuleSkipped
from contracts.events.session import FrameTotals, SessionAlert, SessionStopped
from contracts.ids import new_id
from modal_workers.catalog import workload
from services.notifier.webhooks.messages.formats import SUBJECT_CHARS, TEXT_CHARS, MessageText, message_body
from services.notifier.webhooks.messages.template import VALUE_CHARS
from services.notifier.webhooks.messages.values import NAMES, MessageEndpoint, compose_message

JOB, RULE, UPLOAD = new_id("job"), new_id("rul"), new_id("upl")
FILE = JobInput(
    upload_id=UPLOAD, key="k", filename="lap_1.mp4", content_type="video/mp4", size_bytes=1, sha256="0" * 64
)
SUBMITTED = JobSubmitted(
    workload="lap_compare",
    workload_version="1",
    inputs={"laps": [FILE, FILE]},
    params={},
    metadata={"car": "7", "track": "north"},
    deadline=datetime(2026, 11, 24, tzinfo=UTC),
    rule=JobRule(rule_id=RULE, upload_ids=(UPLOAD,)),
)
ERROR = ErrorBody(code=ErrorCode.CLIP_TOO_SHORT, message="It has 3 frames.", hint="Send a longer one.")
DAY = date(2026, 11, 23)
ALL = "\n".join(f"{name}={{{{{name}}}}}" for name in NAMES)
EVENTS: list[tuple[EventData, str]] = [
    (JobFailed(attempt=1, failure="user", error=ERROR), JOB),
    (
        JobSucceeded(
            attempt=1,
            run_id="r",
            result={},
            manifest_key="k",
            duration_s=41.6,
            cost=Cost(device="T4", seconds=10, usd=0.128),
        ),
        JOB,
    ),
    (
        SessionAlert(run_id="r", alert=1, rule="dropped", condition="it falls", chunk=7, confidence=0.93, text="Fell"),
        new_id("ses"),
    ),
    (SessionStopped(reason="asked", chunks=0, totals=FrameTotals(), result={}, cost_usd=0.5), new_id("ses")),
    (RuleSkipped(upload_ids=(UPLOAD,), error=ERROR), RULE),
    (BudgetWarned(period="day", began=DAY, limit_usd=20, warn_share=0.8, spent_usd=16, reserved_usd=1), ""),
    (BudgetExhausted(period="day", began=DAY, limit_usd=20, spent_usd=20, reserved_usd=0), ""),
]  # fmt: skip


def event(data: EventData, subject: str) -> Envelope:
    time = datetime(2026, 11, 23, 9, 30, 5, tzinfo=UTC)
    return decode(encode(data, tenant="acme", subject_id=subject or "acme", source="/test", time=time).body)


def message(data: EventData, about: str, **template: str) -> MessageText:
    job = SUBMITTED if about == JOB else None
    endpoint = MessageEndpoint("whk_1", "mine", **template)
    return compose_message(event(data, about), endpoint, workload("lap_compare") if job else None, job)


def values(data: EventData, subject: str) -> dict[str, str]:
    lines = (line.partition("=") for line in message(data, subject, template=ALL).text.splitlines())
    return {name: value for name, _, value in lines if value}


def test_a_failed_job_has_these_values() -> None:
    found = values(*EVENTS[0])
    assert found.pop("event.id").startswith("evt_")
    assert found == {
        "message": f"Lap comparison failed: It has 3 frames. Send a longer one. ({JOB})",
        "event.type": "job.failed",
        "event.time": "2026-11-23 09:30:05 UTC",
        "event.subject": JOB,
        "endpoint.id": "whk_1",
        "endpoint.description": "mine",
        "job.id": JOB,
        "job.workload": "lap_compare",
        "job.title": "Lap comparison",
        "job.files": "lap_1.mp4, lap_1.mp4",
        "job.metadata": "car=7, track=north",
        "error.code": "clip_too_short",
        "error.message": "It has 3 frames.",
        "error.hint": "Send a longer one.",
        "rule.id": RULE,
        "rule.uploads": UPLOAD,
    }


def test_every_name_has_a_value_in_some_event() -> None:
    # The headline needs a whole result (test_sentence.py).
    assert {name for data, subject in EVENTS for name in values(data, subject)} == set(NAMES) - {"job.headline"}


def test_the_example_of_the_brief_reads_well() -> None:
    made = message(
        *EVENTS[0], template="{{job.workload}} failed: {{error.message}}", subject="{{job.title}}: {{error.code}}"
    )
    assert made == MessageText("Lap comparison: clip_too_short", "lap_compare failed: It has 3 frames.")


def test_without_a_template_the_sentence_is_sent_and_each_template_stands_for_itself() -> None:
    plain = message(*EVENTS[0])
    assert message(*EVENTS[0], subject="S") == MessageText("S", plain.text)
    assert message(*EVENTS[0], template="T") == MessageText(plain.subject, "T")


def test_a_test_has_example_values_and_says_so() -> None:
    sent = event(*EVENTS[0]).model_copy(update={"type": "webhook.test", "subject": "whk_1"})
    made = compose_message(sent, MessageEndpoint("whk_1", template=ALL, subject="{{job.title}}"))
    assert made.subject == "Lap comparison"
    assert made.text.startswith("Test, with example values: message=Lap comparison failed.")
    lines = dict(line.split("=", 1) for line in made.text.splitlines()[1:])
    assert lines["error.message"] == NAMES["error.message"].example
    assert lines["endpoint.id"] == "whk_1"
    assert all(lines.values()) or lines["endpoint.description"] == ""


def test_a_message_is_never_longer_than_its_limit() -> None:
    alert = SessionAlert(
        run_id="r", alert=1, rule="x" * 9999, condition="c", chunk=1, confidence=1, text="word " * 9999
    )
    made = message(alert, new_id("ses"), template="{{session.text}}" * 100, subject="{{alert.rule}}" * 10)
    assert (len(made.text), len(made.subject)) == (TEXT_CHARS, SUBJECT_CHARS)
    assert VALUE_CHARS < TEXT_CHARS


def test_what_a_template_says_is_escaped_for_slack_like_any_text() -> None:
    alert = SessionAlert(run_id="r", alert=1, rule="r", condition="c", chunk=1, confidence=1, text="<!channel> @here")
    made = message(alert, new_id("ses"), template="<https://evil.example|click> {{session.text}} & more")
    body, _ = message_body("slack", made.text)
    assert json.loads(body)["text"] == (
        "&lt;https://evil.example|click&gt; &lt;!channel&gt; @\u200bhere &amp; more".replace("<", "&lt;")
    )
