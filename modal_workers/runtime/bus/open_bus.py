"""Connection of a run to its job's events: by NATS or by HTTP, as the settings say."""

from __future__ import annotations

import asyncio
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from kit.settings import NatsSettings
from modal_workers.runtime.bus.job_bus import JobBus
from modal_workers.runtime.settings import IngestSettings

#: Timeout for connecting, before the run has claimed anything.
_CONNECT_S: Final = 45.0


async def open_bus(settings: NatsSettings | IngestSettings, assignment: Assignment) -> JobBus:
    """Open the run's bus: HTTP if the settings name a gateway, else NATS.

    Raises:
        BusRefused: the credentials are rejected.
        SaccadeError: BUS_UNAVAILABLE, when nothing answers in time.
    """
    # Each client takes a while to import, and only one is needed.
    try:
        async with asyncio.timeout(_CONNECT_S):
            if isinstance(settings, IngestSettings):
                from modal_workers.runtime.bus.http_bus import HttpBus  # noqa: PLC0415

                return HttpBus(settings, assignment)
            from modal_workers.runtime.bus.nats_bus import open_nats_bus  # noqa: PLC0415

            return await open_nats_bus(settings, assignment)
    except TimeoutError as error:
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
