"""Entry point of the bucket proxy: ``python -m services.bucket_proxy``."""

from __future__ import annotations

import asyncio
import logging
import sys

from kit.early_stop import end_on_sigterm
from kit.imports import without_garbage_collection

if __name__ == "__main__":
    end_on_sigterm()

with without_garbage_collection():
    from pydantic import ValidationError

    from kit.http.server import CannotServeError, listen, stop_on_signals
    from kit.logs import start_logging
    from kit.settings import invalid_settings
    from services.bucket_proxy.proxy import BucketProxy
    from services.bucket_proxy.settings import BucketProxySettings

log = logging.getLogger("bucket_proxy")


async def _main() -> int:
    stop = stop_on_signals()
    start_logging("bucket_proxy")
    try:
        settings = BucketProxySettings()
        start_logging("bucket_proxy", settings.log_level)
        listener = listen(settings.host, settings.port)
    except (CannotServeError, ValidationError) as error:
        line = invalid_settings(error) if isinstance(error, ValidationError) else str(error)
        log.error("the bucket proxy cannot start: %s", line)  # noqa: TRY400 - the line is for the user
        return 1
    proxy = BucketProxy(settings.upstream_url)
    try:
        await proxy.start(listener)
        log.info("serving the bucket of %s at %s:%d", settings.upstream_url, settings.host, settings.port)
        await stop.wait()
    finally:
        await proxy.close()
        listener.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
