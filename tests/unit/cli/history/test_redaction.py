"""Redaction: nothing of a caller's is left of any field of any event, and the events are as valid as before."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from cli.history.kept_fields import KEPT
from cli.history.redaction import Redactor
from contracts.events.base import EVENT_CLASSES, decode, decode_at, encode
from contracts.events.job import JobFailed, JobInput, JobSubmitted
from contracts.events.rule import JobRule
from contracts.ids import new_id, stage_job_id
from tests.harness.history.event_samples import Sampler, numbered_texts

ROUNDS = 3


def test_no_text_of_any_field_is_left() -> None:
    redactor, sampler = Redactor(), Sampler(numbered_texts("canary"))
    written = b""
    for _ in range(ROUNDS):
        for kind in sorted(EVENT_CLASSES):
            subject, body = sampler.event(kind, sampler.text("tenant"))
            subject, body = redactor.event(subject, body)
            written += f"{subject}\n".encode() + body
    assert len(sampler.texts) >= 1000
    assert [text for text in sampler.texts if text.encode() in written] == []
    assert b"canary" not in written
    assert b"facade77" not in written


@pytest.mark.parametrize("kind", sorted(EVENT_CLASSES))
def test_a_redacted_event_is_valid_and_at_its_subject(kind: str) -> None:
    subject, body = Sampler(numbered_texts("canary")).event(kind, "acme", new_id("job"))
    moved, redacted = Redactor().event(subject, body)
    envelope = decode_at(moved, redacted)
    assert envelope.type == kind
    assert envelope.subject == decode(body).subject
    assert numbers(envelope.parsed().model_dump(mode="json")) == numbers(decode(body).parsed().model_dump(mode="json"))


def numbers(value: Any) -> Any:
    """Return the shape and the numbers of a value."""
    if isinstance(value, dict):
        return [numbers(inner) for inner in value.values()]
    return [numbers(inner) for inner in value] if isinstance(value, list) else None if isinstance(value, str) else value


def test_equal_text_has_equal_hashes_within_a_file_and_others_in_another() -> None:
    one, other = Redactor(), Redactor()
    assert one.hash("a.mp4") == one.hash("a.mp4") != one.hash("b.mp4")
    assert one.hash("a.mp4") != other.hash("a.mp4")


def test_ids_states_numbers_and_known_words_are_kept() -> None:
    upload, group, rule = new_id("upl"), new_id("grp"), new_id("rul")
    given = JobInput(upload_id=upload, key="k", filename="f", content_type="video/mp4", size_bytes=7, sha256="ab")
    data = JobSubmitted(
        workload="lap_compare",
        workload_version="1.0.0",
        inputs={"video": [given]},
        params={"laps": 3, "driver": "Ayrton"},
        metadata={"customer": "Acme GmbH"},
        deadline="2026-11-23T08:00:00Z",
        gpu="L4",
        rule=JobRule(rule_id=rule, upload_ids=(upload,), group_id=group),
    )
    message = encode(
        data, tenant="local", subject_id=(job := new_id("job")), source="/gateway", event_id=f"{job}.submitted"
    )
    redactor = Redactor({"lap_compare", "video"})
    subject, body = redactor.event(message.subject, message.body)
    assert subject == message.subject
    redacted = json.loads(body)
    assert (redacted["id"], redacted["source"], redacted["tenant"]) == (f"{job}.submitted", "/gateway", "local")
    data_after = redacted["data"]
    assert data_after["inputs"]["video"][0]["upload_id"] == upload
    assert data_after["inputs"]["video"][0]["filename"] == redactor.hash("f")
    assert data_after["params"] == {redactor.hash("laps"): 3, redactor.hash("driver"): redactor.hash("Ayrton")}
    assert data_after["metadata"] == {redactor.hash("customer"): redactor.hash("Acme GmbH")}
    assert (data_after["gpu"], data_after["workload"], data_after["workload_version"]) == ("L4", "lap_compare", "1.0.0")
    assert data_after["rule"] == {"rule_id": rule, "upload_ids": [upload], "group_id": group}


def test_a_tenant_that_is_named_as_an_input_is_hashed() -> None:
    message = encode(
        JobFailed.model_validate(
            {"attempt": 1, "failure": "user", "error": {"code": "internal", "message": "", "hint": ""}}
        ),
        tenant="video",
        subject_id=new_id("job"),
        source="/dispatcher",
    )
    redactor = Redactor({"video"})
    subject, body = redactor.event(message.subject, message.body)
    assert json.loads(body)["tenant"] == redactor.hash("video") == subject.split(".")[2]


def test_an_error_keeps_its_code_and_hint_and_loses_its_message() -> None:
    error = {"code": "out_of_memory", "message": "no room for the film of Ann", "hint": "ask Ann"}
    data = JobFailed.model_validate({"attempt": 1, "failure": "out_of_memory", "error": error})
    message = encode(data, tenant="local", subject_id=new_id("job"), source="/dispatcher")
    redactor = Redactor()
    after = json.loads(redactor.event(message.subject, message.body)[1])["data"]["error"]
    assert after == {
        "code": "out_of_memory",
        "message": redactor.hash(error["message"]),
        "hint": redactor.hash("ask Ann"),
    }


def test_the_stage_in_an_id_is_hashed_as_it_is_elsewhere() -> None:
    job = stage_job_id(new_id("job"), "our_secret_stage", 7)
    redactor = Redactor()
    assert redactor.event_id(job) == job.replace("our_secret_stage", redactor.hash("our_secret_stage"))
    assert Redactor({"our_secret_stage"}).event_id(job) == job


def test_fields_and_types_that_are_unknown_are_redacted() -> None:
    job = new_id("job")
    envelope = {"id": new_id("evt"), "type": "job.queued", "subject": job, "tenant": "local", "time": "yesterday"}
    subject = f"saccade.evt.local.job.{job}"
    later = envelope | {"data": {"position": 1, "since": "canary", "owner": {"canary": ["canary"]}}, "more": "canary"}
    assert b"canary" not in Redactor().event(f"{subject}.queued", json.dumps(later).encode())[1]
    unknown = envelope | {"type": "canary.canaried", "data": {"canary": "canary"}}
    moved, body = Redactor().event(f"{subject}.canaried", json.dumps(unknown).encode())
    assert b"canary" not in body + moved.encode()
    assert re.fullmatch(r"saccade\.evt\.local\.redacted_\w+\.job_[0-9a-f-]+\.redacted_\w+", moved)
    moved, body = Redactor().event("saccade.evt.canary", b"canary: no JSON")
    assert b"canary" not in body + moved.encode()


def test_the_list_names_fields_that_exist() -> None:
    assert [
        f"{model.__name__}.{name}"
        for model, fields in KEPT.items()
        for name in fields
        if name not in model.model_fields
    ] == []
