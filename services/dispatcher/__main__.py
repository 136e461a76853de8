"""Entry point of ``python -m services.dispatcher``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import Final

from kit.early_stop import end_on_sigterm
from kit.imports import collect_seldom, without_garbage_collection

if __name__ == "__main__":
    end_on_sigterm()

with without_garbage_collection():
    from pydantic import ValidationError
    from saccade_events import StreamReplaced

    from kit.auth.api_keys import AuthSettings
    from kit.bucket import open_bucket
    from kit.bus.connection import connect, declare
    from kit.bus.event_store import EventStore
    from kit.bus.tail import EpochChanged
    from kit.history.archive_access import open_archive
    from kit.http.health import health_app
    from kit.http.server import EXIT_RESTART, CannotServeError, serve, stop_on_signals, wait_until_available
    from kit.logs import start_logging
    from kit.service_metrics import measured
    from kit.settings import ArchiveSettings, NatsSettings, S3Settings, invalid_settings
    from kit.tasks import all_of, end
    from kit.tracing import start_tracing
    from modal_workers.catalog import workloads
    from services.dispatcher.app import Dispatcher
    from services.dispatcher.executors.executor_factory import account_opener, open_executor
    from services.dispatcher.executors.installed_backends import installed_backends
    from services.dispatcher.published_passwords import refuse_published_operator
    from services.dispatcher.settings import DispatcherSettings

log = logging.getLogger("dispatcher")

#: Time for a clean stop, after which the tasks are cancelled.
_STOP_S: Final = 1.5


async def _run(stop: asyncio.Event) -> None:
    """Run the dispatcher until ``stop`` is set."""
    settings, auth = DispatcherSettings(), AuthSettings()
    nats_settings, s3_settings = NatsSettings(), S3Settings()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(start_tracing("dispatcher"))
        bucket = await stack.enter_async_context(open_bucket(s3_settings))
        # Opened before waiting for NATS and the bucket, so that errors in the settings are reported at once.
        executor = await stack.enter_async_context(open_executor(settings, nats_settings, s3_settings, bucket))
        archive = await stack.enter_async_context(open_archive(s3_settings, ArchiveSettings()))
        if archive is None and ArchiveSettings().enabled:
            log.warning("events are not archived: everybody may read the bucket. Set ARCHIVE_BUCKET (docs/archive.md)")
        client = await connect(nats_settings, "dispatcher")
        stack.push_async_callback(client.close)
        await wait_until_available("NATS", lambda: declare(client, nats_settings.replicas))
        await refuse_published_operator(nats_settings)
        await wait_until_available("the bucket", bucket.create)
        dispatcher = Dispatcher(
            client=client,
            store=EventStore(client),
            bucket=bucket,
            executor=executor,
            workloads=workloads(),
            settings=settings,
            verified_senders=bool(nats_settings.credentials_file or nats_settings.credentials),
            backends=installed_backends(settings, workloads().values()),
            opens_account=account_opener(settings, bucket),
            archive=archive,
        )
        await stack.enter_async_context(measured(dispatcher.metrics.registry, client, dispatcher.tail))
        app = health_app(dispatcher.health, dispatcher.readiness, dispatcher.metrics.exposition)
        collect_seldom()
        serving = serve(app, settings.host, settings.port, authenticated=auth.authenticated, stop=stop)
        try:
            await all_of(dispatcher.run(stop), serving)
        except (ValidationError, OSError) as error:
            raise RuntimeError("the dispatcher has failed") from error  # not reported as an error of the settings


async def _main() -> int:
    stop = stop_on_signals()
    running = asyncio.ensure_future(_run(stop))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await asyncio.wait([running], timeout=_STOP_S)
    await end(running, stopping)
    try:
        await running
    except asyncio.CancelledError:
        return 0
    except (EpochChanged, StreamReplaced):
        log.warning("the epoch of the event stream changed: restarting")
        return EXIT_RESTART
    except (ValidationError, OSError, CannotServeError) as error:
        log.error("the dispatcher cannot start: %s", _in_one_line(error))  # noqa: TRY400 - one line for the user
        return 1
    return 0


def _in_one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return invalid_settings(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {error.filename}. Set DISPATCHER_DATA_DIR to a writable folder."
    return str(error)


if __name__ == "__main__":
    start_logging("dispatcher")
    sys.exit(asyncio.run(_main()))
