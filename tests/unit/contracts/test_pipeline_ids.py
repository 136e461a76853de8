"""Ids of stages' jobs are valid wherever job ids are, and are hidden where users list their own jobs."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from contracts.events.base import encode
from contracts.events.job import JobQueued
from contracts.ids import STAGE_PREFIX, is_job_id, new_id, pipeline_id_of, stage_job_id
from contracts.worker_rights import run_grant, run_identity
from kit.auth.api_keys import Principal
from kit.auth.bus_token import BusTokenIssuer, verify
from kit.auth.tickets import Tickets
from kit.bus.event_store import StoredEvent
from services.notifier.streams.sse import Selection, StreamEvent, parse_types
from services.notifier.webhooks.deliveries.planner import EventSubject, plan_deliveries, progress_endpoints
from tests.unit.services.notifier.webhooks.deliveries.test_planner import PLAIN

#: A constant and not random: it is part of test names, which must be equal in all processes of a test run.
PIPELINE = "job_0198c0de-7a11-7b2e-8c3d-5f60718293a4"
PART = stage_job_id(PIPELINE, "rendering", 7)


@given(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), st.integers(0, 999))
def test_an_id_names_its_pipeline(stage: str, shard: int) -> None:
    part = stage_job_id(PIPELINE, stage, shard)
    assert pipeline_id_of(part) == PIPELINE
    assert part.startswith(STAGE_PREFIX)
    assert is_job_id(part)
    assert "." not in part


@pytest.mark.parametrize("text", ["", "stg_", f"{PART}0", PART.upper(), f"x{PART}", PIPELINE.replace("job", "stg")])
def test_other_text_is_not_a_job_id(text: str) -> None:
    assert pipeline_id_of(text) is None
    assert not is_job_id(text)
    assert pipeline_id_of(PIPELINE) is None
    assert is_job_id(PIPELINE)


def test_a_workers_token_is_valid_for_a_stages_job() -> None:
    tokens = BusTokenIssuer(SecretStr(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()))
    token = tokens.issue(run_grant("acme", PART, new_id("run")), 60)
    assert run_identity(verify(token.jwt, tokens.public_key, datetime.now(UTC)).tags).job_id == PART
    assert len(token.jwt) < 3500, "with signature and name it must fit into a line of 4096 bytes"


def test_a_ticket_opens_the_stream_of_a_stages_job() -> None:
    tickets = Tickets("0" * 64)
    path = f"/v1/jobs/{PART}/events"
    holder = Principal("acme", frozenset({"read"}), "key")
    text, _ = tickets.issue(holder, path, datetime.now(UTC))
    assert tickets.is_valid(text, holder, path, datetime.now(UTC))
    assert not tickets.is_valid(text, holder, path.replace("events", "other"), datetime.now(UTC))


def stored(job_id: str) -> StoredEvent:
    message = encode(JobQueued(position=0), tenant="acme", subject_id=job_id, source="/test")
    return StoredEvent(7, message.subject, message.body)


def test_a_tenants_stream_omits_stages_jobs_and_their_own_stream_does_not() -> None:
    part, whole = (StreamEvent.stored(stored(job_id), "abc") for job_id in (PART, PIPELINE))
    everything = Selection("acme")
    assert everything.matches(whole)
    assert not everything.matches(part)
    assert not Selection("acme", types=parse_types(["job.*"])).matches(part)
    own = Selection("acme", PART, ends=True)
    assert own.matches(part)
    assert own.subjects == f"saccade.evt.acme.job.{PART}.*"


def test_webhooks_report_only_the_pipeline() -> None:
    for job_id, deliveries in ((PIPELINE, 1), (PART, 0)):
        subject = EventSubject.of(stored(job_id).subject)
        assert subject
        assert len(plan_deliveries(stored(job_id), subject, [PLAIN], None)) == deliveries
        progress = EventSubject("acme", "job", job_id, "job.progressed")
        told = progress_endpoints(progress, [PLAIN.__class__(**(vars(PLAIN) | {"types": ("job.progressed",)}))])
        assert len(told) == deliveries
