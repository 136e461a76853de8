"""Kinds of targets that one notifier sends replays to."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.client import Client

from kit.settings import NatsSettings
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.target import TargetKind, TargetKinds
from services.notifier.replays.targets.sandbox import SandboxTargetKind, SandboxWriter

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_target_kinds(
    webhook: TargetKind | None, sandbox: NatsSettings | None, client: Client, traffic: LiveTraffic
) -> AsyncIterator[TargetKinds]:
    """Open the kinds of targets; ``sandbox`` is None where NATS has no user who stores copies."""
    by_name: dict[str, TargetKind] = {"webhook": webhook} if webhook else {}
    if sandbox is None:
        log.warning("NOTIFIER_SANDBOX_NATS_USER is not set: nothing is replayed into sandboxes")
        yield TargetKinds(by_name)
        return
    writer = SandboxWriter(sandbox)
    try:
        yield TargetKinds({**by_name, "sandbox": SandboxTargetKind(writer, client, traffic)})
    finally:
        await writer.close()
