"""``python -m services.gateway``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import sys
from collections.abc import Awaitable
from typing import Final

from pydantic import ValidationError

from contracts.errors import SaccadeError
from kit.auth.api_keys import AuthSettings
from kit.bucket import open_bucket
from kit.bus.connection import connect, declare
from kit.bus.tail import EpochChanged
from kit.http.server import EXIT_RESTART, CannotServeError, serve, stop_on_signals, wait_until_available
from kit.logs import start_logging
from kit.settings import NatsSettings, S3Settings
from kit.tasks import end
from services.gateway.aggregates.view import GatewayView
from services.gateway.app import Gateway, build_app, build_gateway
from services.gateway.settings import GatewaySettings

log = logging.getLogger("gateway")

#: Requests have a second of this; then view and connections are closed.
_STOP_S: Final = 1.7


async def _run(stop: asyncio.Event, serving: asyncio.Event) -> None:
    """Start, serve, stop; ``serving`` is set when there is something to stop in order."""
    settings, auth = GatewaySettings(), AuthSettings()
    nats_settings, s3_settings = NatsSettings(), S3Settings()
    async with contextlib.AsyncExitStack() as stack:
        view = _open_view(settings)
        stack.callback(view.close)
        client = await connect(nats_settings, "gateway")
        stack.push_async_callback(client.close)
        await wait_until_available("NATS", lambda: declare(client, nats_settings.replicas))
        bucket = await stack.enter_async_context(open_bucket(s3_settings))
        await wait_until_available("the bucket", bucket.create)
        gateway = build_gateway(settings, auth, client, bucket, view)
        folding = asyncio.ensure_future(gateway.run())
        stack.push_async_callback(end, folding)
        folding.add_done_callback(lambda _: stop.set())
        await _first(gateway.tail.caught_up.wait(), stop)
        if not stop.is_set():
            serving.set()
            waking = asyncio.ensure_future(_wake(gateway, stop))
            stack.callback(waking.cancel)
            log.info("gateway serves http://%s:%d", settings.host, settings.port)
            await serve(
                build_app(gateway), settings.host, settings.port, authenticated=auth.authenticated, stop=stop
            )  # fmt: skip
        if folding.done():
            folding.result()


async def _wake(gateway: Gateway, stop: asyncio.Event) -> None:
    """Answer at once those who wait for the end of a job or session when the service stops."""
    await stop.wait()
    gateway.waiting.wake_all()
    gateway.session_waiting.wake_all()


async def _first(work: Awaitable[object], stop: asyncio.Event) -> None:
    """Wait for work, or for being told to stop."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


async def _main() -> int:
    stop, serving = stop_on_signals(), asyncio.Event()
    running = asyncio.ensure_future(_run(stop, serving))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        # While it still waits for NATS or the bucket, being told to stop ends it at once.
        await asyncio.wait([running], timeout=_STOP_S if serving.is_set() else 0)
    await end(running, stopping)
    return 0 if running.cancelled() else _exit_code(running.exception())


def _exit_code(error: BaseException | None) -> int:
    """Say in one line why the service ends, and what its supervisor should do."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case None:
            return 0
        case EpochChanged():
            log.warning("the stream of events is another one than it was: starting again")
            return EXIT_RESTART
        case SaccadeError():
            log.warning("starting again: %s", error)
            return EXIT_RESTART
        case ValidationError():
            faults = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)]
            log.error("the settings of the gateway are wrong: %s", "; ".join(faults))
        case sqlite3.Error():
            log.error("the view cannot be written (%s): is the disk of GATEWAY_DATA_DIR full?", error)
        case OSError() if error.filename:
            log.error("%s: %s", error.strerror, error.filename)
        case CannotServeError() | OSError():
            log.error("%s", error)
        case _:
            log.error("the gateway broke", exc_info=error)
    return 1


def _open_view(settings: GatewaySettings) -> GatewayView:
    try:
        return GatewayView(settings.data_dir)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotServeError(
            f"The view cannot be opened in {settings.data_dir} ({reason}): "
            "set GATEWAY_DATA_DIR to a folder of the gateway's own that can be written."
        ) from error


if __name__ == "__main__":
    start_logging("gateway")
    sys.exit(asyncio.run(_main()))
