"""Assembly of the dispatcher: constructs and connects its objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from saccade_events import Bus, Reactions
from saccade_events.metrics import ReactionMetrics

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope
from contracts.job import Job
from contracts.streams import DISPATCHER_LEASE, EVENTS, LIVE_EVENTS, RULE_COUNTS
from contracts.workload import Workload
from kit.auth.api_keys import AuthSettings, limits_of_keys_file
from kit.auth.quota_metrics import QuotaMetrics
from kit.bucket import Bucket
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.leader_reads import newest_sequence
from kit.bus.lease import Lease, is_held
from kit.bus.tail import EventTail
from kit.bus.tenant_erasures import TenantErasures
from kit.history.archive_reader import ArchiveReader
from kit.history.history import History
from kit.history.older_events import HistoryBeforeStream
from kit.history.stream_reader import StreamReader
from kit.http.health import Health, nats_check
from kit.http.readiness import Readiness
from kit.snapshot_store import SnapshotStore
from kit.tasks import first_of
from services.dispatcher.archive.archive_metrics import ArchiveMetrics, TrimMetrics
from services.dispatcher.archive.archive_writer import ArchiveWriter
from services.dispatcher.archive.stream_readers import read_by_all
from services.dispatcher.archive.stream_trimmer import Needs, StreamTrimmer
from services.dispatcher.attempts.foreign_runs import ForeignRuns
from services.dispatcher.attempts.last_signs import LastSigns
from services.dispatcher.attempts.run_spans import RunSpans
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.budgets.early_refusal import early_refusal
from services.dispatcher.budgets.on_budget import on_stored as on_budget_stored
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.dispatcher.commands.operations import Operations
from services.dispatcher.costs.attempt_cost import LOCAL
from services.dispatcher.erasure.archive_eraser import ArchiveEraser
from services.dispatcher.erasure.erasures import Erasures
from services.dispatcher.executors.caller_accounts import CallerExecutors, OpensAccount
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import JobRepository, utc_now
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.lifecycle import Lifecycle
from services.dispatcher.lifecycle.lifecycle_rules import lifecycle_rules
from services.dispatcher.lifecycle.scratch_sweep import ScratchSweep
from services.dispatcher.lifecycle.upload_sweep import UploadSweep
from services.dispatcher.lifecycle.used_uploads import UsedUploads
from services.dispatcher.metrics import DispatcherMetrics
from services.dispatcher.pipelines.progress_publisher import PipelineProgressPublisher
from services.dispatcher.rules import on_upload
from services.dispatcher.rules.job_placement import job_placement
from services.dispatcher.rules.job_quota import JobQuota
from services.dispatcher.rules.rule_job import JobPlacement
from services.dispatcher.rules.upload_rules import UploadRules
from services.dispatcher.scheduling.on_job import on_progress, on_stored
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.scheduling.slot_pools import session_workloads, slot_limits
from services.dispatcher.settings import (
    ArchiveWriterSettings,
    BudgetSettings,
    DispatcherSettings,
    RetentionSettings,
    SnapshotSettings,
    lease_details,
)
from services.dispatcher.snapshots.dispatcher_fold import DispatcherFold
from services.dispatcher.snapshots.snapshots import Snapshots
from services.dispatcher.stream_shares.stream_shares import StreamShares

log = logging.getLogger(__name__)

#: What this service does once for each event of a type; the objects that handlers work with are set on ``bus.context``.
REACTIONS: Final[tuple[Reactions, ...]] = (on_upload.reactions,)
_REACTION_NAMES: Final = frozenset(reaction.consumer for listed in REACTIONS for reaction in listed.declarations)
#: Time that a stop waits for them: the lease is released afterwards, and all within the 1.5 s of a stop.
_STOP_REACTIONS_S: Final = 0.7

LEASE_NAME: Final = DISPATCHER_LEASE.rpartition(".")[2]
_HEARTBEATS: Final = "saccade.prog.*.job.*.progressed"
#: Time for which a new leader waits for its own fold before it asks again for the end of the stream.
_CATCH_UP_S: Final = 5.0
_PRICE_REFRESH_S: Final = 86_400.0


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
        budget: BudgetSettings | None = None,
        backends: Sequence[str] | None = None,
        opens_account: OpensAccount | None = None,
        verified_senders: bool = False,
        archive: ArchiveReader | None = None,
        snapshots: SnapshotSettings | None = None,
    ) -> None:
        """Construct the objects; the streams must have been declared. ``store`` is the stream EVENTS.

        ``backends`` are the modules and programs that the workers have; the lease tells them to the gateway.
        ``opens_account`` opens the executor of a caller's own account; None: no job runs on one.
        ``archive``: where to archive the stream, and to keep snapshots; None: nowhere.
        ``verified_senders``: nats-server names the senders of commands (`saccade_events.commands.Commands`).
        """
        self._client, self._store, self._executor, budget = client, store, executor, budget or BudgetSettings()
        self.lease = Lease(client, LEASE_NAME, settings.lease_s, lease_details(settings, budget, backends))
        history = History(EventStore(client), archive)
        self.tail = self._open_tail(history if archive else None)
        self._limits = limits_of_keys_file(AuthSettings(), "rules' jobs and streams")
        self.jobs, self._tenant_erasures = UnfinishedJobs(), TenantErasures()
        self._callers = CallerExecutors(client, executor, opens_account)
        self.pipeline_progress = PipelineProgressPublisher(client, bucket, self.jobs, workloads)
        repository = JobRepository(store, self.jobs, lambda: self.lease.held, history=history)
        budgets = TenantBudgets(budget.limits, repository.clock, self.tail.wait_for)
        self.notices = BudgetNotices(store, budgets, lambda: self.lease.held, lambda: self.tail.last)
        retention, used = retention or RetentionSettings(), UsedUploads(self.jobs, self.tail.wait_for)
        self.scratch_sweep = ScratchSweep(repository, bucket, executor, self.jobs, retention)
        self.upload_sweep = UploadSweep(StoredUploads(store, history, partly=True), bucket, retention, repository, used)
        self.lifecycle = Lifecycle(
            repository=repository,
            bucket=bucket,
            executor=executor,
            workloads=workloads,
            jobs=self.jobs,
            rules=lifecycle_rules(settings),
            notices=self.notices,
            waiting_jobs_of=self._waiting_jobs_of,
            on_pipeline_end=self.pipeline_progress.on_ended,
            executor_of=self._callers.of,
            is_held=self._is_held,
            last_sign=LastSigns(client).of,
        )
        self.reconciler = self._open_reconciler(settings, executor, workloads)
        self.metrics = DispatcherMetrics(self.reconciler, lambda: self.tail.last)
        self.upload_rules = self._open_rules(job_placement(settings, workloads, backends), budgets, history)
        self.bus = Bus(client, *REACTIONS, observers=[ReactionMetrics(self.metrics.registry)], stop_s=_STOP_REACTIONS_S)
        self.bus.context.set_global("upload_rules", self.upload_rules)
        self.operations = self._open_operations(repository, workloads, history)
        self.bus.include_router(self.operations.router(verified_senders=verified_senders))
        self._open_upkeep(bucket, archive, snapshots or SnapshotSettings())

    def _open_tail(self, history: History | None) -> EventTail:
        older = HistoryBeforeStream(history, EVENTS.max_age_s) if history else None
        store = EventStore(self._client)
        return EventTail(store, self._on_stored, live=LIVE_EVENTS, name="dispatcher", older=older)

    def _open_upkeep(self, bucket: Bucket, archive: ArchiveReader | None, snapshots: SnapshotSettings) -> None:
        self.run_spans = RunSpans(lambda: self.lease.held, utc_now)
        self.archive_writer = self._open_archive_writer(archive)
        self.snapshots = self._open_snapshots(archive, snapshots)
        self.trimmer = self._open_trimmer()
        self.stream_shares = StreamShares(self._client, *self._limits)
        self.metrics.registry.register(self.stream_shares)
        self.erasures = self._open_erasures(bucket, archive)
        self.health = self._open_health(bucket)
        self.readiness = Readiness("dispatcher", jobs=self.tail.reading)

    def _open_operations(
        self, repository: JobRepository, workloads: Mapping[str, Workload], past: History
    ) -> Operations:
        used = self._client, self.lease, repository, self.reconciler
        return Operations(*used, workloads=workloads, reactions=_REACTION_NAMES, handle=self.bus.handle, history=past)

    def _open_erasures(self, bucket: Bucket, archive: ArchiveReader | None) -> Erasures:
        audit, eraser = self.operations.audit, None
        if archive and self.archive_writer:
            eraser = ArchiveEraser(archive.segments, self.archive_writer, EventStore(self._client), audit)
        used = self._client, bucket, self._executor, self.jobs, audit
        return Erasures(
            *used,
            may_act=lambda: self.lease.held,
            archive=eraser,
            snapshots=self.snapshots,
            view_snapshots=SnapshotStore(archive.segments.open_bucket, "gateway") if archive else None,
        )

    def _open_health(self, bucket: Bucket) -> Health:
        checks = {"bucket": bucket.check, "lease": self._role, "launches": self.operations.launches}
        return Health("dispatcher", nats=nats_check(self._client), **checks)

    def _open_reconciler(
        self, settings: DispatcherSettings, executor: Executor, workloads: Mapping[str, Workload]
    ) -> Reconciler:
        self.foreign_runs = ForeignRuns(executor, self.jobs)
        return Reconciler(
            self.jobs,
            slot_limits(settings),
            self.lifecycle,
            executor,
            is_connected=lambda: self._client.is_connected,
            pipelines=frozenset(name for name, workload in workloads.items() if workload.kind == "pipeline"),
            sessions=session_workloads(workloads),
            on_retention_changed=self.scratch_sweep.on_retention_changed,
            executor_of=self._callers.of,
        )

    def _open_archive_writer(self, archive: ArchiveReader | None) -> ArchiveWriter | None:
        if archive is None:
            return None
        reader, leads = StreamReader(EventStore(self._client)), lambda: self.lease.held
        writer = ArchiveWriter(reader, archive, self.operations.audit, ArchiveWriterSettings(), leads)
        self.metrics.registry.register(ArchiveMetrics(writer))
        return writer

    def _open_trimmer(self) -> StreamTrimmer:
        writer, reader = self.archive_writer, StreamReader(EventStore(self._client))
        trimmer = StreamTrimmer(
            reader,
            lambda: writer.archived_until if writer else None,
            needs=self._needs,
            read_by_all=partial(read_by_all, self._client),
            is_leader=lambda: self.lease.held,
        )
        self.metrics.registry.register(TrimMetrics(trimmer))
        return trimmer

    def _needs(self) -> Needs:
        """Return the first sequence that unfinished jobs, the next start and this fold need in the stream."""
        jobs = [job.first_sequence for job in (*self.jobs, *self.jobs.ended_stage_jobs)]
        return {
            "unfinished jobs": 0 if self.jobs.unloaded else min(jobs, default=None),
            "snapshots": self.snapshots.needed,
            "fold": self.tail.last + 1,
        }

    def _open_snapshots(self, archive: ArchiveReader | None, settings: SnapshotSettings) -> Snapshots:
        fold = DispatcherFold(self.jobs, self.upload_rules.fold, self.notices.budgets)
        store = SnapshotStore(archive.segments.open_bucket, "dispatcher") if archive else None
        return Snapshots(fold, self.tail, store, every_events=settings.events, is_leader=lambda: self.lease.held)

    def _open_rules(self, placement: JobPlacement, budgets: TenantBudgets, history: History) -> UploadRules:
        budget = partial(early_refusal, budgets, self._executor.name == LOCAL)
        quotas, read_limits = self._limits
        self.metrics.registry.register(QuotaMetrics(quotas))
        refusal = JobQuota(quotas, self.jobs, budget, read_limits)
        return UploadRules(
            self._client,
            store=self._store,
            counts=EventStore(self._client, RULE_COUNTS.name),
            tail=self.tail,
            jobs=self.jobs,
            placement=placement,
            refusal=refusal,
            history=history,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Dispatch until ``stop`` is set, then release the lease; running workers are left alone.

        Raises:
            EpochChanged, StreamReplaced: the stream was replaced, or a tenant erased; all jobs must be folded again.
        """
        _, self._tenant_erasures.after = await epoch_of(self._client, self._store.stream)
        heartbeats = await self._client.subscribe(_HEARTBEATS, cb=self._on_heartbeat)
        try:
            await first_of(
                self._fold(),
                self._tenant_erasures.run(),
                self._lead_when_elected(),
                self._refresh_prices(),
                self._callers.run(),
                self._react(),
                self.operations.run(),
                stop.wait(),
            )
        finally:
            if not self._client.is_closed:
                await heartbeats.unsubscribe()
            await self._callers.close()
        await self.lease.release()

    async def _fold(self) -> None:
        """Fold events from a snapshot on, or all of them.

        Raises:
            EpochChanged: as ``run``.
        """
        after = await self.snapshots.restore()
        await self.tail.run(after.sequence, after.epoch)

    async def _react(self) -> None:
        """React to events, leading or not, once the history is folded.

        Raises:
            StreamReplaced: as ``run``.
        """
        await self.tail.caught_up.wait()
        await self.bus.run()

    async def _refresh_prices(self) -> None:
        """Update the account's own prices now and every day; the dated table covers devices without one."""
        while True:
            if rates := await self._executor.rates():  # empty: there was no answer, and the last prices stay
                self.lifecycle.prices.update(rates)
            await asyncio.sleep(_PRICE_REFRESH_S)

    async def _lead_when_elected(self) -> None:
        """Acquire the lease, lead while it is held, and repeat."""
        while True:
            await self.tail.caught_up.wait()
            await self.lease.acquire()
            log.info("leading")
            await first_of(self.lease.keep(), self._lead(), self.operations.rotation.requested.wait())
            await self.operations.rotation.hand_over()
            await self.foreign_runs.give_way(self.lease)
            log.warning("this dispatcher does not lead now; it asks for the lease again")

    async def _lead(self) -> None:
        """Lead once every event of the previous leader is folded."""
        while not await self._has_caught_up():
            log.info("catching up, at sequence %d", self.tail.last)
        if await self.foreign_runs.forbid_leading():
            return
        self.notices.budgets.lead()
        await self.operations.wait_for_holds()
        await first_of(
            self.reconciler.lead(),
            self.pipeline_progress.run(),
            self.scratch_sweep.run(),
            self.upload_sweep.run(),
            self.upload_rules.lead(),
            self.notices.run(),
            self.operations.abandoned.run(),
            *([self.archive_writer.run()] if self.archive_writer else []),
            self.trimmer.run(),
            self.stream_shares.run(),
            self.erasures.run(),
            self.snapshots.run(),
        )

    async def _has_caught_up(self) -> bool:
        """Wait for the fold to reach the newest event of the stream; return whether it did in time."""
        try:
            # Not its last sequence: what was stored after that event may have been deleted, by age or by an operator.
            newest = await newest_sequence(self._client, self._store.stream)
        except SaccadeError as error:
            log.warning("cannot lead yet: %s", error.message)
            return False
        return await self.tail.wait_for(newest, _CATCH_UP_S)

    def _is_held(self, workload: str) -> bool:
        return self.reconciler.holds.applies_to(workload)

    def _waiting_jobs_of(self, tenant: str) -> int:
        return self.reconciler.queue.waiting_of(tenant)

    def _on_stored(self, stored: StoredEvent) -> None:
        self.metrics.count(stored.subject)
        self._tenant_erasures.on_event(stored)
        job_event = on_stored(self.reconciler, stored, self._observe)
        self.upload_rules.fold.on_stored(stored, job_event)
        on_budget_stored(self.notices.budgets, stored, job_event)

    def _observe(self, event: Envelope, job: Job | None) -> None:
        self.run_spans.on_event(event, job)
        self.metrics.on_event(event, job)

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
