"""Bus access of a worker on a rented machine: a token of its own run, and the URL to use it at."""

from __future__ import annotations

from typing import Literal

from contracts.assignment import Assignment
from contracts.launch import BusAccess
from contracts.session import session_launch_of
from contracts.worker_rights import run_grant, session_run_grant
from kit.auth.bus_token import BusTokenIssuer
from services.dispatcher.executors.executor import LaunchFailed


class RunAccess:
    """Issuer of each run's access."""

    def __init__(self, tokens: BusTokenIssuer, kind: Literal["nats", "ingest"], url: str) -> None:
        """Issue tokens for NATS or for the gateway's ingest routes at ``url``."""
        self._tokens = tokens
        self._kind = kind
        self._url = url

    def of(self, assignment: Assignment, lifetime_s: float) -> BusAccess:
        """Return the access of a run; it expires after ``lifetime_s``.

        Raises:
            LaunchFailed: a live session's worker needs NATS, and only the ingest routes are configured.
        """
        tenant, run_id = assignment.tenant, assignment.run_id
        session = session_launch_of(assignment.job_id, assignment.params)
        if session is None:
            grant = run_grant(tenant, assignment.job_id, run_id)
        elif self._kind == "ingest":
            # The gateway rejects such a session before a job exists if GATEWAY_WORKER_BUS is set accordingly.
            raise LaunchFailed(
                "A live session's worker needs NATS, but workers reach only the gateway: "
                "set DISPATCHER_WORKER_BUS=nats and DISPATCHER_WORKER_BUS_URL."
            )
        else:
            grant = session_run_grant(tenant, session.session_id, run_id, session.replay_of)
        token = self._tokens.issue(grant, lifetime_s)
        if self._kind == "ingest":
            return BusAccess(kind="ingest", url=self._url, secret=token.jwt)
        return BusAccess(kind="nats", url=self._url, secret=token.credentials, inbox_prefix=token.inbox_prefix)
