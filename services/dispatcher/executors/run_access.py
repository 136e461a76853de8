"""The way to the bus that a worker on rented machines is given: a token of its own run, and where it is good."""

from __future__ import annotations

from typing import Literal

from contracts.assignment import Assignment
from contracts.launch import BusAccess
from contracts.session import session_launch_of
from contracts.worker_rights import run_grant, session_run_grant
from kit.auth.bus_token import BusTokenIssuer
from services.dispatcher.executors.executor import LaunchFailed


class RunAccess:
    """Mints each run's access."""

    def __init__(self, tokens: BusTokenIssuer, kind: Literal["nats", "ingest"], url: str) -> None:
        """Hand out tokens for one way."""
        self._tokens = tokens
        self._kind = kind
        self._url = url

    def of(self, assignment: Assignment, lifetime_s: float) -> BusAccess:
        """Mint the access of a run; it ends after ``lifetime_s`` whatever the run does.

        Raises:
            LaunchFailed: a live session's worker needs another way than there is.
        """
        tenant, run_id = assignment.tenant, assignment.run_id
        session = session_launch_of(assignment.job_id, assignment.params)
        if session is None:
            grant = run_grant(tenant, assignment.job_id, run_id)
        elif self._kind == "ingest":
            # The gateway refuses such a session before there is a job, if it was told (GATEWAY_WORKER_BUS).
            raise LaunchFailed("A live session's worker needs NATS, and workers reach the gateway only.")
        else:
            grant = session_run_grant(tenant, session.session_id, run_id, session.replay_of)
        token = self._tokens.issue(grant, lifetime_s)
        if self._kind == "ingest":
            return BusAccess(kind="ingest", url=self._url, secret=token.jwt)
        return BusAccess(kind="nats", url=self._url, secret=token.credentials, inbox_prefix=token.inbox_prefix)
