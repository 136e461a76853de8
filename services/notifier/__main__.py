"""Runs the notifier: ``python -m services.notifier``."""

from __future__ import annotations

import asyncio
import logging
import sys

from services.kit.auth import AuthSettings
from services.kit.logs import start_logging
from services.kit.serve import CannotServeError, stop_on_signals
from services.kit.settings import NatsSettings
from services.notifier.app import run
from services.notifier.settings import NotifierSettings


def _not_of_slow_clients(record: logging.LogRecord) -> bool:
    """Drop uvicorn's error about a stream that was cut: a slow client must not fill the log; metrics count it."""
    return "without completing response" not in record.getMessage()


async def _main() -> int:
    settings = NotifierSettings()
    start_logging("notifier", settings.log_level)
    logging.getLogger("uvicorn.error").addFilter(_not_of_slow_clients)
    try:
        return await run(settings, NatsSettings(), AuthSettings(), stop_on_signals())
    except CannotServeError as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - one line says it all
        return 2


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
