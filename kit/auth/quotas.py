"""Quotas of the tenants of one process: rates are counted here, levels by whom they belong to (contracts/quotas.py)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NoReturn

from contracts.quotas import QUOTAS, QuotaLimits, QuotaName, level_refusal, rate_refusal, take
from contracts.token_bucket import Tokens

#: Rates that are kept; at one more all begin anew, full.
_MOST_RATES: Final = 10_000


class Quotas:
    """Limits of all tenants, and what each has left of its rates in this process."""

    def __init__(
        self,
        limits: QuotaLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        has_rates: bool = True,
    ) -> None:
        """Start with full rates; ``limits`` may be replaced at any time. Without ``has_rates``, none is limited."""
        self._has_rates = has_rates
        self.limits = limits or QuotaLimits({})
        #: Refusals by tenant and quota, for the metrics.
        self.refused: Counter[tuple[str, QuotaName]] = Counter()
        #: Defaults of this process that a setting changes.
        self.defaults: dict[QuotaName, int] = {}
        self._clock = clock
        self._left: dict[tuple[str, QuotaName], Tokens] = {}

    def limit(self, tenant: str, name: QuotaName) -> int:
        """Return a tenant's limit: of the keys file, else of a setting, else of the table."""
        override = self.limits.override(tenant, name)
        return self.defaults.get(name, QUOTAS[name].default) if override is None else override

    def take(self, tenant: str, name: QuotaName, count: float = 1, *, counts: bool = True) -> None:
        """Use a part of a rate. Without ``counts``, a refusal is not in ``refused``: it is one again.

        Raises:
            SaccadeError: RATE_LIMITED; nothing was used.
        """
        if not self._has_rates:
            return
        quota, limit, key = QUOTAS[name], self.limit(tenant, name), (tenant, name)
        tokens, wait_s = take(quota, limit, self._left.get(key), self._clock(), count)
        if key not in self._left and len(self._left) >= _MOST_RATES:
            self._left.clear()
        self._left[key] = tokens
        if wait_s:
            self.refused[key] += counts
            raise rate_refusal(quota, limit, wait_s, datetime.now(UTC))

    def take_some(self, tenant: str, name: QuotaName, most: int, *, counts: bool = True) -> int:
        """Use up to ``most`` of a rate, as much as is left, and return how much that is; ``counts`` as for ``take``.

        Raises:
            SaccadeError: RATE_LIMITED; nothing was left.
        """
        tokens, _ = take(QUOTAS[name], self.limit(tenant, name), self._left.get((tenant, name)), self._clock(), 0)
        count = max(1, min(most, int(tokens.left))) if self._has_rates else most
        self.take(tenant, name, count, counts=counts)
        return count

    def refuse_rate(self, tenant: str, name: QuotaName, limit: int, wait_s: float) -> NoReturn:
        """Refuse a request beyond ``limit``, which is less than the tenant's because of others.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        self.refused[tenant, name] += 1
        raise rate_refusal(QUOTAS[name], limit, wait_s, datetime.now(UTC))

    def require(self, tenant: str, name: QuotaName, used: int, wanted: int = 1, *, most: int | None = None) -> None:
        """Check that a tenant may use more of a level; ``most`` is what others leave of it, if that is less.

        Raises:
            SaccadeError: QUOTA_EXCEEDED.
        """
        limit = self.limit(tenant, name)
        if refusal := level_refusal(QUOTAS[name], limit if most is None else min(limit, most), used, wanted):
            self.refused[tenant, name] += 1
            raise refusal
