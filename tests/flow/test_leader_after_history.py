"""A standby has folded the history before it leads: what it reads when the leader is killed does not depend on it.

How long that takes is measured by bench/takeover.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kit.bus.connection import connect
from tests.harness.dispatch.dispatcher_pair import (
    DispatcherService,
    MonitoredNats,
    by_role,
    submit_job,
    until_starting,
)
from tests.harness.history.long_history import restore_history
from tests.harness.servers.embedded import S3Server

pytestmark = pytest.mark.anyio
#: About 8 events each.
JOBS = 3000
#: Messages that the bus may send to everybody from the kill to the next launch: the lease, the orders of operators, the
#: new job, and what the test itself asks.
MOST_MESSAGES = 1000


async def test_the_next_leader_launches_a_job_and_reads_no_history(tmp_path: Path, s3_server: S3Server) -> None:
    """The archive is off, and snapshots with it, so that whatever the bus sends is for the fold or for the lead."""
    (tmp_path / "nats").mkdir()
    with MonitoredNats(tmp_path / "nats") as nats:
        state = await restore_history(nats.settings, tmp_path, JOBS, unfinished=0)
        assert state["messages"] > 20 * MOST_MESSAGES
        settings = (nats.settings, s3_server.settings, tmp_path)
        with (
            DispatcherService(*settings, "first", ARCHIVE_ENABLED="false") as first,
            DispatcherService(*settings, "second", ARCHIVE_ENABLED="false") as second,
        ):
            leader, standby = await asyncio.to_thread(by_role, first, second)
            assert standby.sequence() >= state["last_seq"], "it has folded the history before it has the lease"
            sent = nats.sent()
            leader.kill()
            client = await connect(nats.settings, "test")
            job_id = await submit_job(client)
            await until_starting(client, job_id)
            assert nats.sent() - sent < MOST_MESSAGES
            await asyncio.to_thread(standby.wait_until, "leading")
            await client.close()
