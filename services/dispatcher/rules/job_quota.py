"""Quota of unfinished jobs for the jobs that rules submit; those that clients submit are checked by the gateway."""

from __future__ import annotations

import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from contracts.errors import SaccadeError
from contracts.quotas import QuotaName
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.quota_metrics import QuotaMetrics
from kit.auth.quotas import Quotas
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.rules.submission import Refusal

log = logging.getLogger(__name__)


class JobQuota:
    """Refuses a rule's job when its tenant has as many unfinished ones as it may have, else asks ``further``."""

    def __init__(
        self, quotas: Quotas, jobs: UnfinishedJobs, further: Refusal, read_limits: Callable[[], None] = lambda: None
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


def open_job_quota(
    settings: AuthSettings, jobs: UnfinishedJobs, further: Refusal, registry: CollectorRegistry
) -> JobQuota:
    """Return the quota with the limits of the keys file; without one that can be read, with the defaults."""
    try:
        authenticator = Authenticator(settings)
        quota = JobQuota(authenticator.quotas, jobs, further, authenticator.reload)
    except (OSError, ValueError) as error:
        log.warning("the keys file cannot be read (%s): rules' jobs have the default quota", type(error).__name__)
        quota = JobQuota(Quotas(), jobs, further)
    registry.register(QuotaMetrics(quota.quotas))
    return quota
