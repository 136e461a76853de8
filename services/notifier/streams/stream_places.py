"""Streams that each tenant has open in this process, whatever they are of: live events or replays."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from contracts.errors import SaccadeError
from contracts.quotas import QuotaName
from kit.auth.quotas import Quotas


class StreamPlaces:
    """Counts open streams. All methods are called in the event loop."""

    def __init__(self) -> None:
        """Start with none open, and with the default limits."""
        self.quotas = Quotas()
        self._open: Counter[str] = Counter()

    def enter(self, tenant: str) -> None:
        """Count one stream more of a tenant."""
        self._open[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Count one stream less of a tenant."""
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]

    @contextlib.contextmanager
    def counted(self, tenant: str) -> Iterator[None]:
        """Count a stream of a tenant while the block runs."""
        self.enter(tenant)
        try:
            yield
        finally:
            self.leave(tenant)

    def is_full(self, tenant: str) -> bool:
        """Return whether a tenant has as many as it may."""
        return self._open[tenant] >= self.quotas.limit(tenant, QuotaName.EVENT_STREAMS)

    def refusal(self, tenant: str) -> str:
        """Return why one stream more of a tenant is refused, and count the refusal; empty while it is not."""
        try:
            self.quotas.require(tenant, QuotaName.EVENT_STREAMS, self._open[tenant])
        except SaccadeError as error:
            return error.message
        return ""
