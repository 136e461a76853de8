"""``python -m services.gateway``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sqlite3
import sys
from typing import Final

from kit.early_stop import end_on_sigterm
from kit.imports import collect_seldom, without_garbage_collection

if __name__ == "__main__":
    end_on_sigterm()

with without_garbage_collection():
    from nats.aio.client import Client
    from pydantic import ValidationError

    from contracts.errors import SaccadeError
    from contracts.http_routes import is_path_of
    from contracts.limits import MIB
    from kit.auth.api_keys import AuthSettings
    from kit.bucket import open_bucket
    from kit.bus.connection import connect, declare
    from kit.bus.tail import EpochChanged
    from kit.history.archive_access import open_archive
    from kit.http.passed_connections import PassedConnections
    from kit.http.server import EXIT_RESTART, CannotServeError, serve, stop_on_signals, wait_until_available
    from kit.logs import start_logging
    from kit.service_metrics import measured
    from kit.settings import ArchiveSettings, NatsSettings, OriginSettings, S3Settings, invalid_settings
    from kit.snapshot_store import SnapshotStore
    from kit.tasks import end
    from kit.tracing import start_tracing
    from services.gateway.aggregates.view import FILE_NAME, GatewayView
    from services.gateway.app import GatewayLoop, build_gateway
    from services.gateway.settings import GatewaySettings, ViewSnapshotSettings
    from services.gateway.snapshots.snapshot_record import SnapshotRecord
    from services.gateway.snapshots.view_snapshots import SERVICE as SNAPSHOTS
    from services.gateway.snapshots.view_snapshots import fetch_view
    from services.gateway.starting_application import StartingApplication

log = logging.getLogger("gateway")

#: Time to stop: requests get a second of it, then view and connections are closed.
_STOP_S: Final = 1.7
#: Free space without which the view is not opened on disk: its next commits would fail.
_VIEW_BYTES: Final = 8 * MIB


async def _run(stop: asyncio.Event, serving: asyncio.Event) -> None:
    """Start, serve, stop; ``serving`` is set once requests are served, which need an orderly stop."""
    settings, auth = GatewaySettings(), AuthSettings()
    nats_settings, s3_settings = NatsSettings(), S3Settings()
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(start_tracing("gateway"))
        opened = _OpenView(settings)
        stack.callback(opened.close)
        client = await connect(nats_settings, "gateway")
        stack.push_async_callback(client.close)
        await wait_until_available("NATS", lambda: declare(client, nats_settings.replicas))
        bucket = await stack.enter_async_context(open_bucket(s3_settings))
        await wait_until_available("the bucket", bucket.create)
        archive = await stack.enter_async_context(open_archive(s3_settings, ArchiveSettings()))
        starting = StartingApplication(client, record := SnapshotRecord())
        server = serve(
            starting,
            settings.host,
            settings.port,
            authenticated=auth.authenticated,
            stop=(closing := asyncio.Event()),
            passed=PassedConnections.inherited(OriginSettings().connections_fd, is_path_of("gateway")),
            drain=starting.drain,
        )
        stack.push_async_callback(_end_server, served := asyncio.ensure_future(server), closing)
        stack.callback(asyncio.ensure_future(_set_after(stop, closing)).cancel)
        await asyncio.sleep(0)
        if served.done():  # its port is taken: no download before that is said
            await served
        if archive and ViewSnapshotSettings().events and not auth.read_only:
            await opened.fetch(SnapshotStore(archive.segments.open_bucket, SNAPSHOTS), client, record)
        app, loop = build_gateway(settings, auth, client, bucket, opened.view, archive=archive)
        loop.snapshots.record.begin_with(record)
        registry, tail = app.state.metrics.registry, loop.follower.tail
        await stack.enter_async_context(measured(registry, client, tail, all_streams=True))
        running = asyncio.ensure_future(loop.run())
        stack.push_async_callback(end, running)
        running.add_done_callback(lambda _: stop.set())
        serving.set()
        for task in (_release_waiters(loop, stop), _say_when_ready(loop)):
            stack.callback(asyncio.ensure_future(task).cancel)
        collect_seldom()
        starting.become(app, app.state.session_streams.drain)
        if not served.done():
            log.info("gateway listens on http://%s:%d", settings.host, settings.port)
        await served
        if running.done():
            running.result()


async def _set_after(stop: asyncio.Event, closing: asyncio.Event) -> None:
    await stop.wait()
    closing.set()


async def _end_server(served: asyncio.Task[None], closing: asyncio.Event) -> None:
    """End the server in order, also when the start has failed: it would report its cancellation as an error."""
    closing.set()
    await asyncio.wait([served], timeout=_STOP_S)
    await end(served)


async def _release_waiters(loop: GatewayLoop, stop: asyncio.Event) -> None:
    """Wait for the stop of the service, then answer the requests that wait for the end of a job or session."""
    await stop.wait()
    loop.waiters.notify_all()


async def _say_when_ready(loop: GatewayLoop) -> None:
    """Log the end of the start: until then requests are refused."""
    await loop.follower.tail.caught_up.wait()
    log.info("gateway is ready")


async def _main() -> int:
    stop, serving = stop_on_signals(), asyncio.Event()
    running = asyncio.ensure_future(_run(stop, serving))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        # A service that still waits for NATS or the bucket stops at once.
        await asyncio.wait([running], timeout=_STOP_S if serving.is_set() else 0)
    await end(running, stopping)
    return 0 if running.cancelled() else _exit_code(running.exception())


def _exit_code(error: BaseException | None) -> int:
    """Log the reason of the exit in one line and return the exit code, which tells the supervisor what to do."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case None:
            return 0
        case EpochChanged():
            log.warning("the stream of events was replaced: restarting")
            return EXIT_RESTART
        case SaccadeError():
            log.warning("restarting: %s", error)
            return EXIT_RESTART
        case ValidationError():
            log.error("the gateway cannot start: %s", invalid_settings(error))
        case sqlite3.Error():
            log.error("the view cannot be written (%s): is the disk of GATEWAY_DATA_DIR full?", error)
        case OSError() if error.filename:
            log.error("%s: %s", error.strerror, error.filename)
        case CannotServeError() | OSError():
            log.error("%s", error)
        case _:
            log.error("unexpected error", exc_info=error)
    return 1


def _open_view(settings: GatewaySettings) -> GatewayView:
    if settings.data_dir.exists() and shutil.disk_usage(settings.data_dir).free < _VIEW_BYTES:
        # A gateway that does not start could not tell anyone that the disk is full.
        log.warning("the disk of GATEWAY_DATA_DIR is full: the view is kept in memory until the next start")
        return GatewayView(None)
    try:
        return GatewayView(settings.data_dir)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotServeError(
            f"The view cannot be opened in {settings.data_dir} ({reason}): "
            "set GATEWAY_DATA_DIR to a writable folder that only the gateway uses."
        ) from error


class _OpenView:
    """The view, which may be replaced before anything uses it."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.view = _open_view(settings)

    async def fetch(self, store: SnapshotStore, client: Client, record: SnapshotRecord | None = None) -> None:
        """Go on from a snapshot, if nothing is folded yet.

        Raises:
            CannotServeError: the view cannot be opened.
        """
        folder = self._settings.data_dir
        if self.view.sequence or not (folder / FILE_NAME).exists():
            return  # the disk is full and the view is in memory
        self.view.close()
        await fetch_view(store, client, folder, record)
        self.view = _open_view(self._settings)

    def close(self) -> None:
        self.view.close()


if __name__ == "__main__":
    start_logging("gateway")
    sys.exit(asyncio.run(_main()))
