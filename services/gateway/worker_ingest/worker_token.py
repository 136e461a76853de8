"""Verification of the token that a worker sends to the gateway: one run of one job, until the token expires."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from contracts.worker_rights import run_identity
from kit.auth.bus_token import verify


@dataclass(frozen=True, slots=True)
class WorkerClaims:
    """Claims of a verified worker's token."""

    tenant: str
    job_id: str
    run_id: str
    expires_at: datetime
    #: Every subject that the worker may publish to.
    subjects: frozenset[str]


def verify_worker_token(jwt: str, account_public_key: str, now: datetime) -> WorkerClaims:
    """Check a worker's token and return its claims.

    Raises:
        SaccadeError: UNAUTHENTICATED.
    """
    token = verify(jwt, account_public_key, now)
    run = run_identity(token.tags)
    return WorkerClaims(run.tenant, run.job_id, run.run_id, token.expires_at, token.publish)
