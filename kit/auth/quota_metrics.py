"""Prometheus metrics of quotas."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from kit.auth.quotas import Quotas


class QuotaMetrics(Collector):
    """Refusals by tenant and quota; only those that there were, so tenants without any make no series."""

    def __init__(self, quotas: Quotas) -> None:
        """Show what ``quotas`` has refused."""
        self._quotas = quotas

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter in Prometheus' form."""
        family = CounterMetricFamily(
            "saccade_quota_refused",
            "Requests beyond a quota, and uploads that rules skip because of one",
            labels=["tenant", "quota"],
        )
        for (tenant, name), count in list(self._quotas.refused.items()):
            family.add_metric([tenant, str(name)], count)
        yield family
