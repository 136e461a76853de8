"""Progress of replays is kept in memory as long as the replays are shown, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.audit import Act, AuditData, encode_record, new_record_id
from contracts.ids import new_id
from contracts.replay import NOUN, ReplayCounts, ReplayInto
from contracts.streams import IDEMPOTENCY, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency
from kit.history.history import History
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.progress import ReplayProgress
from services.notifier.replays.records import REMEMBERED_DAYS
from services.notifier.replays.replays import Replays
from services.notifier.replays.target import TargetKinds
from tests.harness.replays.line_target import LineKind
from tests.harness.replays.plans import plan_into
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import publisher

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("days", "known"), [(REMEMBERED_DAYS - 1, True), (REMEMBERED_DAYS + 1, False)])
async def test_progress_is_forgotten_with_its_replay(
    nats_server: NatsServer, tmp_path: Path, days: int, *, known: bool
) -> None:
    at, replay_id = datetime.now(UTC) - timedelta(days=days), new_id("rpl")
    async with publisher(nats_server.settings) as jobs:
        operations = EventStore(jobs.client, OPS.name)
        replays = Replays(
            AuditLog(operations, "/notifier"),
            History(jobs.store),
            Idempotency(EventStore(jobs.client, IDEMPOTENCY.name)),
            TargetKinds({"webhook": LineKind(tmp_path)}),
            position_of=lambda cursor: cursor.sequence,
            heartbeat_s=15,
            maximum_readers=10,
            traffic=LiveTraffic(),
        )
        service = replays.service
        service.board.report(replay_id, ReplayProgress(sequence=3, counts=ReplayCounts(sent=3)))
        plan = plan_into(ReplayInto(kind="sse"), "local", at)
        details = {"plan": plan.model_dump(mode="json")}
        data = AuditData(
            by="ada", why="test", request_id="req_1", phase="outcome", intent="ops_1", details=details, previous=""
        )
        act = Act("local", NOUN, replay_id)
        await operations.publish(
            encode_record(act, "planned", data, record_id=new_record_id(), source="/notifier", time=at)
        )
        await service.records.catch_up()
        assert (service.records.get(replay_id) is not None) is known
        assert (service.board.newest(replay_id) is not None) is known
