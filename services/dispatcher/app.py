"""The dispatcher put together: the one place where its objects meet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.streams import LIVE_EVENTS
from contracts.workload import Workload
from kit.bucket import Bucket
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.lease import Lease
from kit.bus.tail import EventTail
from kit.http.health import Health, nats_check
from kit.tasks import first_of
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import Ledger
from services.dispatcher.jobs.on_job import on_progress, on_stored
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.lifecycle.janitor import Janitor
from services.dispatcher.lifecycle.lifecycle import REACTION_S, Lifecycle, Rules
from services.dispatcher.lifecycle.liveness import Patience
from services.dispatcher.lifecycle.retry import Backoff
from services.dispatcher.metrics import Metrics
from services.dispatcher.pipelines.progress_publisher import PipelineTeller
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.settings import DispatcherSettings, RetentionSettings

log = logging.getLogger(__name__)

LEASE_NAME: Final = "dispatcher"
_HEARTBEATS: Final = "saccade.prog.*.job.*.progressed"
#: How long a new leader waits for its own fold before it asks again where the stream ends.
_CATCH_UP_S: Final = 5.0
_PRICES_S: Final = 86_400.0


def rules_of(settings: DispatcherSettings) -> Rules:
    """Give the operator's decisions as the rules take them."""
    return Rules(
        patience=Patience(
            find_s=settings.find_s,
            silent_s=settings.silent_s,
            reaction_s=REACTION_S + settings.poll_s,
            gpu_notice_s=settings.queue.gpu_notice_s,
            gpu_climb_s=settings.queue.gpu_climb_s,
        ),
        backoff=Backoff(settings.backoff_s, settings.backoff_max_s, settings.queue.throttled_s),
        poll_s=settings.poll_s,
    )


class Dispatcher:
    """One dispatcher: it folds every job always, and acts while it holds the lease."""

    def __init__(
        self,
        *,
        client: Client,
        store: EventStore,
        bucket: Bucket,
        executor: Executor,
        workloads: Mapping[str, Workload],
        settings: DispatcherSettings,
        retention: RetentionSettings | None = None,
    ) -> None:
        """Put it together; the streams must have been declared. ``store`` is EVENTS."""
        self._client = client
        self._store = store
        self._executor = executor
        self.lease = Lease(client, LEASE_NAME, settings.lease_s)
        self.jobs = Jobs()
        self.teller = PipelineTeller(client, bucket, self.jobs, workloads)
        ledger = Ledger(store, self.jobs, lambda: self.lease.held)
        self.janitor = Janitor(ledger, bucket, executor, self.jobs, retention or RetentionSettings())
        self.lifecycle = Lifecycle(
            ledger=ledger,
            bucket=bucket,
            executor=executor,
            workloads=workloads,
            jobs=self.jobs,
            rules=rules_of(settings),
            waiting_of=self._waiting_of,
            on_pipeline_end=self.teller.ended,
        )
        limits = Limits(settings.slots, settings.tenant_concurrency, settings.workload_concurrency)
        self.reconciler = Reconciler(
            self.jobs,
            limits,
            self.lifecycle,
            executor,
            is_connected=lambda: client.is_connected,
            pipelines=frozenset(name for name, one in workloads.items() if one.kind == "pipeline"),
            on_retention=self.janitor.changed,
        )
        self.tail = EventTail(EventStore(client), self._on_stored, live=LIVE_EVENTS, name="dispatcher")
        self.metrics = Metrics(self.reconciler, lambda: self.tail.last)
        self.health = Health("dispatcher", nats=nats_check(client), bucket=bucket.check, lease=self._role)

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until told to stop; then the lease is given back at once, and the workers go on.

        Raises:
            EpochChanged: the stream is another one: everything must be folded anew.
        """
        heartbeats = await self._client.subscribe(_HEARTBEATS, cb=self._on_heartbeat)
        try:
            await first_of(self.tail.run(), self._take_turns(), self._keep_prices(), stop.wait())
        finally:
            if not self._client.is_closed:
                await heartbeats.unsubscribe()
        await self.lease.release()

    async def _keep_prices(self) -> None:
        """Ask now and every day what the account is billed; the dated table stands in for what is not told."""
        while True:
            try:
                self.lifecycle.prices.take(await self._executor.rates())
            except SaccadeError as error:
                log.warning("the account's prices are not known: %s", error.message)
            await asyncio.sleep(_PRICES_S)

    async def _take_turns(self) -> None:
        """Wait for the lease, lead while it is held, wait again."""
        while True:
            await self.tail.caught_up.wait()
            await self.lease.acquire()
            log.info("leading")
            await first_of(self.lease.keep(), self._lead())
            log.warning("the lease is lost: another dispatcher may lead")

    async def _lead(self) -> None:
        """Lead from where the stream ends now: nothing that the leader before us said may be unknown."""
        while not await self._knows_all():
            log.info("catching up, at event %d", self.tail.last)
        await first_of(self.reconciler.lead(), self.teller.run(), self.janitor.run())

    async def _knows_all(self) -> bool:
        """Wait a while for our own fold to reach the end of the stream; tell whether it has."""
        try:
            _, last = await epoch_of(self._client, self._store.stream)
            if self.tail.last >= last:
                return True
            # The newest events may be gone, by age or by hand: then nothing is left to wait for.
            left, _ = await self._store.batch(self.tail.last, size=1)
        except SaccadeError as error:
            log.warning("cannot lead yet: %s", error.message)
            return False
        return not left or await self.tail.wait_for(left[-1].sequence, _CATCH_UP_S)

    def _waiting_of(self, tenant: str) -> int:
        return self.reconciler.queue.waiting_of(tenant)

    def _on_stored(self, stored: StoredEvent) -> None:
        self.metrics.count(stored.subject)
        on_stored(self.reconciler, stored)

    async def _on_heartbeat(self, message: Msg) -> None:
        try:
            on_progress(self.reconciler, message.subject, message.data)
        except ValueError:
            log.warning("a heartbeat on %s could not be read", message.subject)

    async def _role(self) -> str:
        return "leading" if self.reconciler.leading else "standing by"
