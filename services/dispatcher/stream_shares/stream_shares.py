"""Room for every tenant in streams that delete their oldest, whosever that is, when they are full.

Before one is, who has more than its quota, or than its part of what there is, loses its own oldest messages. Nobody is
refused: sessions and deliveries go on, and what a robot publishes by NATS itself counts too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from nats.aio.client import Client
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName, kept_bytes
from contracts.streams import DEADLETTERS, DELIVERIES, TELEMETRY
from kit.auth.quotas import Quotas
from kit.bus.jetstream_api import request, stream_info
from services.dispatcher.erasure.stream_eraser import StreamEraser
from services.dispatcher.stream_shares.sizes import StoredSize, sizes
from services.dispatcher.stream_shares.tally import Tally

log = logging.getLogger(__name__)

_LOOK_S: Final = 5.0
#: Share of a stream from which on tenants are counted, what all keep then, and below which the counts are dropped.
_FULL, _KEPT, _EMPTY = 0.75, 0.7, 0.5
#: Parts in which a full stream is counted.
_PARTS: Final = 1000
#: Deviation of the counts from what the server says from which on they are made anew: something else has deleted.
_DEVIATION: Final = 0.1
_DELETE_S: Final = 60.0


@dataclass(frozen=True)
class SharedStream:
    """One of the streams: whose a message is, and the quota of its bytes."""

    name: str
    quota: QuotaName
    #: Subjects of a tenant, whose name follows; none where a header has the subject of which a message tells.
    subjects: str = ""

    def tenant_of(self, stored: StoredSize) -> str:
        """Return whose a message is; empty if it does not say."""
        subject = stored.subject if self.subjects else stored.headers.get("Saccade-Subject", "")
        parts = subject.split(".")
        return parts[2] if len(parts) > 2 else ""


SHARED: Final = (
    SharedStream(TELEMETRY.name, QuotaName.TELEMETRY_BYTES, "saccade.tele."),
    SharedStream(DELIVERIES.name, QuotaName.DELIVERY_BYTES, "saccade.dlv."),
    SharedStream(DEADLETTERS.name, QuotaName.DEAD_LETTER_BYTES),
)


class StreamShares(Collector):
    """Deletes tenants' oldest messages while its dispatcher leads."""

    def __init__(self, client: Client, quotas: Quotas, read_limits: Callable[[], object] = lambda: None) -> None:
        """Keep tenants within ``quotas``; ``read_limits`` brings their limits up to date."""
        self._client, self._quotas, self._read_limits = client, quotas, read_limits
        self._tallies: dict[str, Tally] = {}
        self._look_s = _LOOK_S
        #: Bytes that this process has deleted, by stream and tenant.
        self.deleted: Counter[tuple[str, str]] = Counter()

    async def run(self) -> None:
        """Look and delete until cancelled."""
        while True:
            for shared in SHARED:
                try:
                    await self.look(shared)
                except SaccadeError as error:
                    log.warning("tenants' parts of %s were not looked at: %s", shared.name, error)
            await asyncio.sleep(self._look_s)

    async def look(self, shared: SharedStream) -> None:
        """Delete what tenants have beyond their parts, if the stream is nearly full.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        info = await stream_info(self._client, shared.name)
        held, most = info["state"]["bytes"], info["config"]["max_bytes"]
        if most <= 0 or held < _EMPTY * most:
            self._tallies.pop(shared.name, None)
        if most <= 0 or held < _FULL * most:
            return
        self._read_limits()
        tally = await self._count(shared, held, most, (info["state"]["first_seq"], info["state"]["last_seq"]))
        used = tally.used()
        limits = {tenant: self._quotas.limit(tenant, shared.quota) for tenant in used}
        kept = kept_bytes(used, limits, int(_KEPT * most))
        for tenant, size in used.items():
            if surplus := size - kept[tenant]:
                await self._delete_oldest(shared, tally, tenant, surplus)

    async def _count(self, shared: SharedStream, held: int, most: int, bounds: tuple[int, int]) -> Tally:
        """Return the counts of a stream that holds so many bytes, between its first and last sequence."""
        first, last = bounds
        tally = self._tallies.setdefault(shared.name, Tally(most // _PARTS))
        if tally.last > last:  # the stream was made anew
            tally = self._tallies[shared.name] = Tally(most // _PARTS)
        tally.forget(first)
        begins_anew = not tally.last
        async for stored in sizes(self._client, shared.name, tally.last):
            tally.add(stored.sequence, shared.tenant_of(stored), stored.size_bytes)
        if not begins_anew and abs(sum(tally.used().values()) - held) > _DEVIATION * held:
            del self._tallies[shared.name]
            return await self._count(shared, held, most, bounds)
        return tally

    async def _delete_oldest(self, shared: SharedStream, tally: Tally, tenant: str, surplus: int) -> None:
        first, last, size = tally.oldest(tenant, surplus)
        if shared.subjects:
            body = {"filter": f"{shared.subjects}{tenant}.>", "seq": last + 1}
            answer = await request(self._client, f"STREAM.PURGE.{shared.name}", body, _DELETE_S)
            if "error" in answer:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS refused: {answer['error']}.")
        else:
            found = await self._sequences(shared, tenant, first, last)
            await StreamEraser(self._client).delete(shared.name, found, overwrites=False)
        tally.forget(last + 1, tenant)
        self.deleted[shared.name, tenant] += size
        log.warning(
            "%s is nearly full: the oldest %d bytes of %s were deleted (docs/quotas.md)",
            shared.name, size, tenant or "no tenant",
        )  # fmt: skip

    async def _sequences(self, shared: SharedStream, tenant: str, first: int, last: int) -> list[int]:
        found = []
        async with aclosing(sizes(self._client, shared.name, first - 1)) as messages:
            async for stored in messages:
                if stored.sequence > last:
                    break
                if shared.tenant_of(stored) == tenant:
                    found.append(stored.sequence)
        return found

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counter in Prometheus' form; only tenants that have lost something make a series."""
        family = CounterMetricFamily(
            "saccade_stream_quota_deleted_bytes",
            "Bytes of tenants' oldest messages that were deleted from a stream that was nearly full",
            labels=["stream", "tenant"],
        )
        for (stream, tenant), size in list(self.deleted.items()):
            family.add_metric([stream, tenant], size)
        yield family
