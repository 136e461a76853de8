"""Entry point of the notifier: ``python -m services.notifier``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

from kit.early_stop import end_on_sigterm
from kit.imports import collect_seldom, without_garbage_collection

if __name__ == "__main__":
    end_on_sigterm()

with without_garbage_collection():
    from pydantic import ValidationError

    from kit.auth.api_keys import AuthSettings
    from kit.http.server import CannotServeError, stop_on_signals
    from kit.logs import start_logging
    from kit.settings import NatsSettings, invalid_settings
    from kit.tracing import start_tracing
    from services.notifier.app import run
    from services.notifier.settings import NotifierSettings, SandboxNatsSettings, SmtpSettings, WebhookSettings

log = logging.getLogger("notifier")


async def _main() -> int:
    stop = stop_on_signals()
    start_logging("notifier")
    try:
        settings = NotifierSettings()
        start_logging("notifier", settings.log_level)
        with contextlib.ExitStack() as stack:
            stack.callback(start_tracing("notifier"))
            collect_seldom()
            return await run(
                settings,
                WebhookSettings(),
                NatsSettings(),
                AuthSettings(),
                stop,
                smtp=SmtpSettings(),
                sandbox=SandboxNatsSettings(),
            )
    except (CannotServeError, ValidationError, OSError) as error:
        log.error("the notifier cannot start: %s", _in_one_line(error))  # noqa: TRY400 - the line is for the user
        return 1


def _in_one_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return invalid_settings(error)
    return str(error)


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
