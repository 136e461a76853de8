"""Places for the WebSockets that a tenant has open in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.quotas import QuotaName
from kit.auth.quotas import Quotas


class SocketPlaces:
    """Counts the open sockets of each tenant, whatever they are for, but for those of the replaced vision system."""

    def __init__(self, quotas: Quotas) -> None:
        """Start with none open; ``quotas`` limit them."""
        self._quotas = quotas
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """Count a socket among its tenant's open ones while the block runs.

        Raises:
            SaccadeError: RATE_LIMITED.
        """
        self._quotas.require(tenant, QuotaName.SESSION_SOCKETS, self._open[tenant])
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
