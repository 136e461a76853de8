"""Composition root of the gateway: builds its objects, its HTTP application and its background work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI
from nats.aio.client import Client

from contracts.errors import SaccadeError
from contracts.streams import ERASURES, EVENTS, LEASES, OPS, TELEMETRY
from contracts.upload import Upload
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.tickets import Tickets
from kit.bucket import Bucket
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.history.archive_reader import ArchiveReader
from kit.history.history import History
from kit.http.readiness import Readiness
from kit.network.download import Downloader
from kit.settings import WebhookAddressSettings
from kit.snapshot_store import SnapshotStore
from kit.tasks import first_of
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.early_reads import EarlyReads
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import Projector, ViewFollower, handling
from services.gateway.artifacts.job_files import JobFiles
from services.gateway.artifacts.pages import ArtifactPages
from services.gateway.artifacts.service import ArtifactService
from services.gateway.audit.audit_reader import AuditReader
from services.gateway.backends.dispatcher_report import DispatcherReport
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.budgets import on_budget
from services.gateway.budgets.service import BudgetService
from services.gateway.compat.badminton.composition import mount_badminton
from services.gateway.compat.badminton_endpoint.routes import add_badminton_endpoint
from services.gateway.compat.default_session import DefaultSessions
from services.gateway.compat.laps.composition import mount_laps
from services.gateway.compat.nerf.composition import add_nerf
from services.gateway.compat.vision.composition import mount_vision
from services.gateway.dead_letters.composition import DeadLetterWork
from services.gateway.erasure import on_erasure
from services.gateway.erasure.service import ErasureService
from services.gateway.http_application import add_health_route, add_metrics_route, health_of, http_application
from services.gateway.job_plans.job_items import JobItems
from services.gateway.job_plans.service import JobPlans
from services.gateway.jobs import on_job
from services.gateway.jobs.check_presenter import JobCheckPresenter
from services.gateway.jobs.early_jobs import EarlyJobs
from services.gateway.jobs.latest_progress import LatestJobProgress
from services.gateway.jobs.past_jobs import PastJobs
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.reported_holds import ReportedHolds
from services.gateway.jobs.service import JobService
from services.gateway.jobs.url_jobs import UrlJobs
from services.gateway.metrics import GatewayMetrics
from services.gateway.object_reads import ObjectReads
from services.gateway.retention.retention_metrics import RetentionMetrics
from services.gateway.retention.retention_sweep import RetentionSweep
from services.gateway.rules import on_rule
from services.gateway.rules.presenter import RulePresenter
from services.gateway.rules.service import RuleService
from services.gateway.rules.trial import RuleTrials
from services.gateway.sessions import on_session
from services.gateway.sessions.caller_accounts import CallerAccounts
from services.gateway.sessions.early_sessions import EarlySessions
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.past_sessions import PastSessions
from services.gateway.sessions.ply_download import PlyDownload
from services.gateway.sessions.presenter import SessionPresenter
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_readers import SessionReaders
from services.gateway.sessions.session_reconciler import SessionReconciler
from services.gateway.sessions.stream.session_streams import SessionStreams
from services.gateway.sessions.words.service import SessionWords
from services.gateway.settings import (
    ConsoleSettings,
    DiskSettings,
    FileRetentionSettings,
    GatewaySettings,
    LiveSplatSettings,
    SessionSettings,
    UrlInputSettings,
    ViewSnapshotSettings,
)
from services.gateway.snapshots.view_snapshots import SERVICE as SNAPSHOTS
from services.gateway.snapshots.view_snapshots import ViewSnapshots
from services.gateway.streams.stream_reports import StreamReports
from services.gateway.telemetry.consumer_requests import TelemetryConsumerRequests
from services.gateway.telemetry.frame_acks import FrameAcks
from services.gateway.telemetry.nats_access import NatsAccess
from services.gateway.telemetry.publisher import TelemetryPublisher
from services.gateway.telemetry.session_ingest import SessionIngest
from services.gateway.uploads import on_upload
from services.gateway.uploads.disk import Disk
from services.gateway.uploads.fetching.upload_fetcher import UploadFetcher
from services.gateway.uploads.fetching.upload_fetches import UploadFetches
from services.gateway.uploads.fetching.url_policy import UrlPolicy
from services.gateway.uploads.fetching.url_uploads import UrlUploads
from services.gateway.uploads.media_probe_process import probe_media
from services.gateway.uploads.presenter import UploadPresenter
from services.gateway.uploads.service import UploadService
from services.gateway.worker_ingest.service import WorkerIngest
from services.gateway.workloads.presenter import WorkloadPresenter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewayLoop:
    """Background work of the gateway, which must run while the application serves requests."""

    follower: ViewFollower
    reconciler: SessionReconciler
    uploads: UploadService
    fetches: UploadFetches
    url_jobs: UrlJobs
    waiters: CompletionWaiters
    holds: ReportedHolds
    #: Subscriptions that are made before events are folded.
    subscribe: Sequence[Callable[[], Awaitable[None]]]
    dead_letters: DeadLetterWork
    retention: RetentionSweep
    snapshots: ViewSnapshots
    housekeeping_s: float
    #: The events are an imported window: nothing follows from them.
    read_only: bool = False

    async def run(self) -> None:
        """Follow the stream, reconcile sessions and do housekeeping until cancelled.

        Raises:
            EpochChanged: the stream of events was replaced; restart the process.
        """
        for subscribe in self.subscribe:
            await subscribe()
        caught_up = self.follower.tail.caught_up
        if self.read_only:
            await first_of(self.follower.run(), self.holds.run())
            return
        await first_of(
            self.follower.run(),
            self._housekeeping(),
            self.reconciler.run(caught_up),
            self.fetches.run(caught_up),
            self.url_jobs.run(caught_up),
            self.holds.run(),
            self.dead_letters.run(),
            self.snapshots.run(),
        )

    async def _housekeeping(self) -> None:
        """Expire uploads, re-check unfinished sessions and prune the view, periodically."""
        await self.follower.tail.caught_up.wait()
        while True:
            try:
                now = datetime.now(UTC)
                if count := await self.uploads.expire(now):
                    log.info("%d uploads expired", count)
                self.reconciler.enqueue_unfinished()
                await self.fetches.sweep()
                await self.url_jobs.sweep()
                self.follower.view.prune_before(now - timedelta(seconds=EVENTS.max_age_s))
                await self.retention.run_once()
            except SaccadeError as error:
                log.warning("housekeeping: %s", error)
            await asyncio.sleep(self.housekeeping_s)


def build_gateway(
    settings: GatewaySettings,
    auth: AuthSettings,
    client: Client,
    bucket: Bucket,
    view: GatewayView,
    *,
    session_settings: SessionSettings | None = None,
    url_settings: UrlInputSettings | None = None,
    archive: ArchiveReader | None = None,
) -> tuple[FastAPI, GatewayLoop]:
    """Build the HTTP application, whose state has what the routes need, and the background work that it depends on.

    Raises:
        OSError, ValueError: a file that the settings name cannot be read.
    """
    tickets = _tickets(session_settings := session_settings or SessionSettings())
    store, authenticator, disk = EventStore(client), _authenticator(auth, tickets), Disk(DiskSettings().disk)
    readers, waiters, url_settings = SessionReaders(), CompletionWaiters(), url_settings or UrlInputSettings()
    tail = (follower := ViewFollower(store, view, readers.on_event, archive)).tail
    metrics, use = GatewayMetrics(quotas := authenticator.quotas), TenantUse(quotas, view.usage)
    idempotency = Idempotency(EventStore(client, "IDEMPOTENCY"), quotas)
    common: Any = {"store": store, "view": view, "tail": tail, "idempotency": idempotency, "use": use}
    uploads = _upload_service(settings, bucket=bucket, disk=disk, **common)
    fetches = _upload_fetches(client, uploads, bucket, disk, UrlPolicy(url_settings, auth), use=use)
    backends, budgets, holds = _reported(client, settings, store=store, view=view, tail=tail)
    common |= {"waiters": waiters, "settings": settings, "backends": backends, "budgets": budgets}
    jobs = JobService(uploads=uploads, https_webhooks_only=WebhookAddressSettings().https_only(auth), **common)
    job_progress, session_progress = LatestJobProgress(client), LatestSessionProgress(client, readers.on_advisory)
    sessions = _session_service(client, jobs=jobs, progress=session_progress, **common)
    reconciler, url_jobs = SessionReconciler(sessions, view), UrlJobs(jobs, uploads, fetches, idempotency, waiters)
    _set_projectors(follower, job_progress, waiters, reconciler, fetches.on_upload, url_jobs.on_upload)
    ingest = SessionIngest(TelemetryPublisher(client, metrics), acks := FrameAcks(client, metrics))
    state = (app := http_application(auth, metrics, disk, Readiness("gateway", view=tail.reading), tickets)).state
    state.authenticator, state.view, state.uploads, state.backends = authenticator, view, uploads, backends
    state.upload_presenter = UploadPresenter(bucket, fetches.progress)
    state.url_uploads, state.url_jobs, state.budgets = UrlUploads(fetches, uploads, idempotency), url_jobs, budgets
    _add_rules(app, RuleService(jobs=jobs, store=store, view=view, tail=tail, idempotency=idempotency, use=use), view)
    state.jobs, state.job_presenter = jobs, JobPresenter(view, job_progress, tail, settings.scratch_hours, holds)
    _add_artifacts(app, bucket, view, authenticator, tickets)
    add_nerf(app, url_jobs, settings, bucket, disk)
    state.worker_ingest = WorkerIngest(store, EventStore(client, "PROGRESS"), settings.worker_key, auth.partition)
    _add_estimates(app, jobs, holds)
    state.sessions, state.session_progress, state.session_ingest = sessions, session_progress, ingest
    state.session_presenter = SessionPresenter(jobs, view, session_progress, NatsAccess(session_settings), tail)
    _add_reads_of_history(app, history := History(store, archive), follower, bucket)
    streaming: Any = {"session_readers": readers, "tail": tail, "sessions": sessions}
    words = SessionWords(store=store, idempotency=idempotency, waiters=waiters, history=history, **streaming)
    streaming |= {"authenticator": authenticator, "tickets": tickets, "words": words, "progress": session_progress}
    state.session_words, state.health = words, health_of(store, bucket, disk)
    state.session_streams = SessionStreams(session_settings, ingest=ingest, **streaming)
    state.default_sessions = DefaultSessions(sessions, ingest, EventStore(client, TELEMETRY.name), backends)
    _mount_replaced(app, follower, job_progress, bucket, auth=auth, disk=disk)
    add_health_route(app, state.health, authenticator, state.default_sessions)
    add_metrics_route(app, metrics, view, readers)
    subscribe = (job_progress.start, session_progress.start, acks.start, TelemetryConsumerRequests(client).start)
    operators = _add_operators(app, client, history, idempotency, metrics)
    background = (follower, reconciler, uploads, fetches, url_jobs, waiters, holds, subscribe, operators)
    retention, snapshots = _retention(app, store, bucket, authenticator), _snapshots(app, follower, archive, settings)
    return app, GatewayLoop(*background, retention, snapshots, settings.housekeeping_s, read_only=auth.read_only)


def _snapshots(
    app: FastAPI, follower: ViewFollower, archive: ArchiveReader | None, settings: GatewaySettings
) -> ViewSnapshots:
    store = SnapshotStore(archive.segments.open_bucket, SNAPSHOTS) if archive else None
    snapshots = ViewSnapshots(
        follower.view, follower.tail, store, settings.data_dir, every_events=ViewSnapshotSettings().events
    )
    app.state.metrics.registry.register(snapshots.record)
    return snapshots


def _retention(app: FastAPI, store: EventStore, bucket: Bucket, authenticator: Authenticator) -> RetentionSweep:
    limits: Any = {"limits": lambda: authenticator.retention, "default": FileRetentionSettings().hours}
    sweep = RetentionSweep(store, bucket, app.state.view, app.state.jobs, app.state.uploads, **limits)
    app.state.metrics.registry.register(RetentionMetrics(sweep))
    return sweep


def _add_estimates(app: FastAPI, jobs: JobService, holds: ReportedHolds) -> None:
    app.state.job_checks = JobCheckPresenter(jobs.estimates, holds, app.state.backends)
    app.state.workload_presenter = WorkloadPresenter(jobs)


def _add_artifacts(
    app: FastAPI, bucket: Bucket, view: GatewayView, authenticator: Authenticator, tickets: Tickets
) -> None:
    app.state.artifacts = artifacts = ArtifactService(bucket, view)
    app.state.console_bucket, app.state.console_settings = bucket, ConsoleSettings()
    app.state.object_reads = reads = ObjectReads(bucket, authenticator.quotas)
    app.state.ply_download = PlyDownload(reads)
    app.state.artifact_pages = ArtifactPages(reads, artifacts, authenticator, tickets)


def _add_rules(app: FastAPI, rules: RuleService, view: GatewayView) -> None:
    state = app.state
    state.rules, state.rule_presenter, state.rule_trials = rules, RulePresenter(view), RuleTrials(view)


def _add_operators(
    app: FastAPI, client: Client, history: History, idempotency: Idempotency, metrics: GatewayMetrics
) -> DeadLetterWork:
    jobs = app.state.jobs
    dead_letters = DeadLetterWork(client, jobs, idempotency, metrics, JobItems(jobs), history=history)
    app.state.audit_reader, app.state.dead_letters = AuditReader(EventStore(client, OPS.name)), dead_letters.service
    plans = (dead_letters.reader, dead_letters.audit, dead_letters.runner, dead_letters.idempotency)
    app.state.job_plans = JobPlans(app.state.view, *plans)
    app.state.stream_reports = StreamReports(client, app.state.console_bucket, app.state.view)
    app.state.erasures = _erasures(client, app.state.view, app.state.jobs, app.state.uploads)
    return dead_letters


def _add_reads_of_history(app: FastAPI, history: History, follower: ViewFollower, bucket: Bucket) -> None:
    state, view, tail = app.state, follower.view, follower.tail
    state.past_jobs = jobs = PastJobs(history, tail, view, state.job_presenter, bucket)
    state.past_sessions = PastSessions(
        history, tail, view=view, presenter=state.session_presenter, bucket=bucket, jobs=jobs.aggregates
    )
    _add_early_reads(app, follower, history)


def _add_early_reads(app: FastAPI, follower: ViewFollower, history: History) -> None:
    """Add what is read while the view catches up."""
    state, progress = app.state, LatestJobProgress(follower.tail.store.client)  # not started, and not shown
    state.early_reads = reads = EarlyReads(follower, history, partial(projectors_of_objects, progress=progress))
    state.early_jobs = early_jobs = EarlyJobs(reads, state.job_presenter)
    state.early_sessions = EarlySessions(reads, state.session_presenter)
    state.job_files = JobFiles(state.jobs, state.artifacts, early_jobs)


def projectors_of_objects(view: GatewayView, progress: LatestJobProgress) -> dict[str, Projector]:
    """Return projectors that fold jobs, sessions and uploads into a view and start nothing."""
    waiters = CompletionWaiters()
    return {
        "job": handling(on_job.HANDLERS, on_job.JobProjector(view, progress, waiters, _ignore)),
        "session": handling(on_session.HANDLERS, on_session.SessionProjector(view, waiters, _ignore)),
        "upload": handling(on_upload.HANDLERS, on_upload.UploadProjector(view)),
    }


def _ignore(_: str) -> None:
    """Ignore the id: a view that is read once starts no work."""


def _erasures(client: Client, view: GatewayView, jobs: JobService, uploads: UploadService) -> ErasureService:
    return ErasureService(EventStore(client, ERASURES.name), EventStore(client, OPS.name), view, jobs, uploads)


def _mount_replaced(
    app: FastAPI,
    follower: ViewFollower,
    job_progress: LatestJobProgress,
    bucket: Bucket,
    *,
    auth: AuthSettings,
    disk: Disk,
) -> None:
    """Mount the replaced systems that answer in their own form."""
    client = follower.tail.store.client
    mount_badminton(app, follower, job_progress, bucket, disk.cause_of)
    add_badminton_endpoint(app, client, auth)
    mount_vision(app, client, auth, disk.cause_of)
    mount_laps(app, bucket, disk.cause_of)


def _session_service(client: Client, **common: Any) -> SessionService:
    defaults = LiveSplatSettings().session_defaults
    return SessionService(accounts=CallerAccounts(client), defaults=defaults, **common)


def _upload_service(settings: GatewaySettings, **common: Any) -> UploadService:
    probe = partial(probe_media, timeout_s=settings.probe_timeout_s, memory_bytes=settings.probe_memory_bytes)
    return UploadService(probe_media=probe, concurrent_checks=settings.checks_at_once, **common)


def _upload_fetches(
    client: Client, uploads: UploadService, bucket: Bucket, disk: Disk, policy: UrlPolicy, *, use: TenantUse
) -> UploadFetches:
    fetcher = UploadFetcher(policy, Downloader(policy.guard, policy.settings.limits), bucket, uploads, disk, use=use)
    return UploadFetches(client, uploads, fetcher, policy, use=use)


def _set_projectors(
    follower: ViewFollower,
    progress: LatestJobProgress,
    waiters: CompletionWaiters,
    reconciler: SessionReconciler,
    *on_upload_change: Callable[[Upload], None],
) -> None:
    view = follower.view
    follower.set_projectors(
        job=handling(on_job.HANDLERS, on_job.JobProjector(view, progress, waiters, reconciler.enqueue)),
        session=handling(on_session.HANDLERS, on_session.SessionProjector(view, waiters, reconciler.enqueue_later)),
        upload=handling(on_upload.HANDLERS, on_upload.UploadProjector(view, *on_upload_change)),
        rule=handling(on_rule.HANDLERS, view),
        budget=handling(on_budget.HANDLERS, view),
        erasure=handling(on_erasure.HANDLERS, view),
    )


def _reported(
    client: Client, settings: GatewaySettings, **common: Any
) -> tuple[ReportedBackends, BudgetService, ReportedHolds]:
    """Build what reads the report of the dispatcher."""
    report, is_free = DispatcherReport(EventStore(client, LEASES.name)), settings.effective_executor == "local"
    backends = ReportedBackends(report, settings.backends, settings.install_hint)
    return backends, BudgetService(report=report, workers_are_free=is_free, **common), ReportedHolds(report)


def _authenticator(auth: AuthSettings, tickets: Tickets) -> Authenticator:
    return Authenticator(auth, tickets.sessions, tickets.portal_links)


def _tickets(settings: SessionSettings) -> Tickets:
    key = settings.ticket_key
    return Tickets(key.get_secret_value() if key else None)
