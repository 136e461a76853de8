"""Assembly of the dispatcher: constructs and connects its objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import DISPATCHER_LEASE, LIVE_EVENTS
from contracts.workload import Workload
from kit.bucket import Bucket
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.lease import Lease, is_held
from kit.bus.tail import EventTail
from kit.http.health import Health, nats_check
from kit.tasks import first_of
from services.dispatcher.attempts.liveness import Timeouts
from services.dispatcher.attempts.retry import RetryPolicy
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.janitor import Janitor
from services.dispatcher.lifecycle.lifecycle import STOP_S, Lifecycle, LifecycleRules
from services.dispatcher.metrics import DispatcherMetrics
from services.dispatcher.pipelines.progress_publisher import PipelineProgressPublisher
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.on_job import on_progress, on_stored
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.settings import DispatcherSettings, RetentionSettings

log = logging.getLogger(__name__)

LEASE_NAME: Final = DISPATCHER_LEASE.rpartition(".")[2]
_HEARTBEATS: Final = "saccade.prog.*.job.*.progressed"
#: Time for which a new leader waits for its own fold before it asks again for the end of the stream.
_CATCH_UP_S: Final = 5.0
_PRICE_REFRESH_S: Final = 86_400.0


def lifecycle_rules(settings: DispatcherSettings) -> LifecycleRules:
    """Return the rules of a job's lifecycle from the settings."""
    return LifecycleRules(
        timeouts=Timeouts(
            find_s=settings.find_s,
            silent_s=settings.silent_s,
            reaction_s=STOP_S + settings.poll_s,
            gpu_notice_s=settings.queue.gpu_notice_s,
            next_gpu_after_s=settings.queue.gpu_climb_s,
        ),
        retry_policy=RetryPolicy(settings.backoff_s, settings.backoff_max_s, settings.queue.throttled_s),
        poll_s=settings.poll_s,
    )


class Dispatcher:
    """One dispatcher: it always folds every job, and acts only while it holds the lease."""

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
        backends: Sequence[str] | None = None,
    ) -> None:
        """Construct the objects; the streams must have been declared. ``store`` is the stream EVENTS.

        ``backends`` are the modules and programs that the workers have; the lease tells them to the gateway.
        """
        self._client = client
        self._store = store
        self._executor = executor
        details = {} if backends is None else {"backends": list(backends)}
        self.lease = Lease(client, LEASE_NAME, settings.lease_s, details)
        self.jobs = UnfinishedJobs()
        self.pipeline_progress = PipelineProgressPublisher(client, bucket, self.jobs, workloads)
        repository = JobRepository(store, self.jobs, lambda: self.lease.held)
        self.janitor = Janitor(repository, bucket, executor, self.jobs, retention or RetentionSettings())
        self.lifecycle = Lifecycle(
            repository=repository,
            bucket=bucket,
            executor=executor,
            workloads=workloads,
            jobs=self.jobs,
            rules=lifecycle_rules(settings),
            waiting_jobs_of=self._waiting_jobs_of,
            on_pipeline_end=self.pipeline_progress.on_ended,
        )
        limits = Limits(settings.slots, settings.tenant_concurrency, settings.workload_concurrency)
        self.reconciler = Reconciler(
            self.jobs,
            limits,
            self.lifecycle,
            executor,
            is_connected=lambda: client.is_connected,
            pipelines=frozenset(name for name, workload in workloads.items() if workload.kind == "pipeline"),
            on_retention_changed=self.janitor.on_retention_changed,
        )
        self.tail = EventTail(EventStore(client), self._on_stored, live=LIVE_EVENTS, name="dispatcher")
        self.metrics = DispatcherMetrics(self.reconciler, lambda: self.tail.last)
        self.health = Health("dispatcher", nats=nats_check(client), bucket=bucket.check, lease=self._role)

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until ``stop`` is set, then release the lease; running workers are left alone.

        Raises:
            EpochChanged: the stream was replaced; all jobs must be folded again.
        """
        heartbeats = await self._client.subscribe(_HEARTBEATS, cb=self._on_heartbeat)
        try:
            await first_of(self.tail.run(), self._lead_when_elected(), self._refresh_prices(), stop.wait())
        finally:
            if not self._client.is_closed:
                await heartbeats.unsubscribe()
        await self.lease.release()

    async def _refresh_prices(self) -> None:
        """Update the account's own prices now and every day; the dated table covers devices without one."""
        while True:
            try:
                self.lifecycle.prices.update(await self._executor.rates())
            except SaccadeError as error:
                log.warning("the account's prices could not be read: %s", error.message)
            await asyncio.sleep(_PRICE_REFRESH_S)

    async def _lead_when_elected(self) -> None:
        """Acquire the lease, lead while it is held, and repeat."""
        while True:
            await self.tail.caught_up.wait()
            await self.lease.acquire()
            log.info("leading")
            await first_of(self.lease.keep(), self._lead())
            log.warning("lost the lease: another dispatcher may lead")

    async def _lead(self) -> None:
        """Lead once every event of the previous leader is folded."""
        while not await self._has_caught_up():
            log.info("catching up, at sequence %d", self.tail.last)
        await first_of(self.reconciler.lead(), self.pipeline_progress.run(), self.janitor.run())

    async def _has_caught_up(self) -> bool:
        """Wait for the fold to reach the current end of the stream; return whether it did in time."""
        try:
            _, last = await epoch_of(self._client, self._store.stream)
            if self.tail.last >= last:
                return True
            # The newest events may have been deleted, by age or by an operator: then there is nothing to wait for.
            newer, _ = await self._store.batch(self.tail.last, size=1)
        except SaccadeError as error:
            log.warning("cannot lead yet: %s", error.message)
            return False
        return not newer or await self.tail.wait_for(newer[-1].sequence, _CATCH_UP_S)

    def _waiting_jobs_of(self, tenant: str) -> int:
        return self.reconciler.queue.waiting_of(tenant)

    def _on_stored(self, stored: StoredEvent) -> None:
        self.metrics.count(stored.subject)
        on_stored(self.reconciler, stored)

    async def _on_heartbeat(self, message: Msg) -> None:
        try:
            on_progress(self.reconciler, message.subject, message.data)
        except ValueError:
            log.warning("discarded an undecodable heartbeat on %s", message.subject)

    async def _role(self) -> str:
        """Return this dispatcher's role.

        Raises:
            SaccadeError: none leads.
        """
        if self.reconciler.leading and self.lease.held:
            return "leading"
        if await is_held(self._client, DISPATCHER_LEASE):
            return "standing by"
        raise SaccadeError(ErrorCode.WORKER_NOT_STARTED, "No dispatcher leads: jobs stay queued.")
