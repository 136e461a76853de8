"""Quota of unfinished jobs for the jobs that rules submit; those that clients submit are checked by the gateway."""

from __future__ import annotations

from collections.abc import Callable

from contracts.errors import SaccadeError
from contracts.quotas import QuotaName
from kit.auth.quotas import Quotas
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.rules.submission import Refusal


class JobQuota:
    """Refuses a rule's job when its tenant has as many unfinished ones as it may have, else asks ``further``."""

    def __init__(
        self, quotas: Quotas, jobs: UnfinishedJobs, further: Refusal, read_limits: Callable[[], object] = lambda: None
    ) -> None:
        """Count ``jobs``; ``read_limits`` brings the limits of ``quotas`` up to date."""
        self.quotas = quotas
        self._jobs, self._further, self._read_limits = jobs, further, read_limits

    def __call__(self, tenant: str, amount_usd: float) -> SaccadeError | None:
        """Return why a tenant may not start a job of this cost now; None if it may."""
        self._read_limits()
        try:
            self.quotas.require(tenant, QuotaName.UNFINISHED_JOBS, self._jobs.count(tenant))
        except SaccadeError as error:
            return error
        return self._further(tenant, amount_usd)
