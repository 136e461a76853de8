"""The way to the bus that a worker on rented machines is given: a token of its own run, and where it is good."""

from __future__ import annotations

from typing import Literal

from contracts.assignment import Assignment
from contracts.launch import BusAccess
from services.kit.worker_token import WorkerTokens


class RunAccess:
    """Mints each run's access."""

    def __init__(self, tokens: WorkerTokens, kind: Literal["nats", "ingest"], url: str) -> None:
        """Hand out tokens for one way."""
        self._tokens = tokens
        self._kind = kind
        self._url = url

    def of(self, assignment: Assignment, lifetime_s: float) -> BusAccess:
        """Mint the access of a run; it ends after ``lifetime_s`` whatever the run does."""
        token = self._tokens.issue(assignment.tenant, assignment.job_id, assignment.run_id, lifetime_s)
        if self._kind == "ingest":
            return BusAccess(kind="ingest", url=self._url, secret=token.jwt)
        return BusAccess(kind="nats", url=self._url, secret=token.credentials, inbox_prefix=token.inbox_prefix)
