"""Grants of workers and senders: the subjects they allow, and tokens that fit into NATS's protocol."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import nkeys
import pytest
from pydantic import SecretStr

from contracts.bus_grant import BusGrant
from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.session import job_id_of_session
from contracts.worker_rights import RunIdentity, run_grant, run_identity, session_run_grant, session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from services.gateway.worker_ingest.worker_token import WorkerClaims, verify_worker_token

TENANT, JOB, RUN = "acme", new_id("job"), new_id("run")
ISSUER = BusTokenIssuer(SecretStr(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()))


def verified(grant: BusGrant) -> WorkerClaims:
    return verify_worker_token(ISSUER.issue(grant, 60).jwt, ISSUER.public_key, datetime.now(UTC))


def test_a_runs_token_allows_the_workers_events_of_its_own_job() -> None:
    token = ISSUER.issue(run_grant(TENANT, JOB, RUN), 60)
    claims = verify_worker_token(token.jwt, ISSUER.public_key, datetime.now(UTC))
    assert (claims.tenant, claims.job_id, claims.run_id) == (TENANT, JOB, RUN)
    assert claims.expires_at == token.expires_at
    published = {subject for subject in claims.subjects if subject.startswith("saccade.")}
    verbs = ("started", "stage_completed", "artifact_ready", "interrupted", "succeeded")
    events = {f"saccade.evt.{TENANT}.job.{JOB}.{verb}" for verb in verbs}
    assert published == events | {f"saccade.prog.{TENANT}.job.{JOB}.progressed"}
    assert claims.subjects - published == {f"$JS.API.DIRECT.GET.EVENTS.saccade.evt.{TENANT}.job.{JOB}.*"}


def test_a_token_fits_into_one_line_of_the_protocol() -> None:
    """nats-server reads CONNECT lines of at most 4096 bytes, which hold the signature and the client's name as well.

    In operator mode ours reads 8192 (deploy/nats_operator.py), for a session's worker in a tenant with a long name.
    """
    assert len(ISSUER.issue(run_grant("t" * 63, JOB, RUN), 60).jwt) < 3000
    session, replayed = new_id("ses"), new_id("ses")
    assert len(ISSUER.issue(session_run_grant("acme", session, RUN, replayed), 60).jwt) < 3500
    assert len(ISSUER.issue(session_run_grant("t" * 63, session, RUN, replayed), 60).jwt) < 6000


def test_the_token_of_a_sessions_run_is_also_that_of_its_job() -> None:
    session = new_id("ses")
    claims = verified(session_run_grant(TENANT, session, RUN))
    assert (claims.tenant, claims.job_id, claims.run_id) == (TENANT, job_id_of_session(session), RUN)
    assert verified(run_grant(TENANT, job_id_of_session(session), RUN)).subjects < claims.subjects
    for malformed in ({"session_id": "ses_1"}, {"run_id": "run_1"}, {"replay_of": "ses_1"}):
        arguments: dict[str, Any] = {"session_id": session, "run_id": RUN} | malformed
        with pytest.raises(ValueError, match="not a "):
            session_run_grant(TENANT, **arguments)


def test_only_a_runs_tags_identify_a_run() -> None:
    assert run_identity(run_grant(TENANT, JOB, RUN).tags) == RunIdentity(TENANT, JOB, RUN)
    for tags in (session_sender_grant(TENANT, new_id("ses")).tags, (), ("tenant:acme", "job:job_1", f"run:{RUN}")):
        with pytest.raises(SaccadeError) as caught:
            run_identity(tags)
        assert caught.value.code is ErrorCode.UNAUTHENTICATED
        assert "not a worker's token" in caught.value.message
