"""A robot's sender is told why a session rejects its frames, in every place where the session is shown."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys

import pytest
from saccade_robot import Streamer, find_session

from contracts.errors import ErrorCode, SaccadeError
from kit.http.server import serve
from modal_workers.live_splat.kinematics import SO101
from tests.harness.servers.embedded import HOST, ROOT, free_port, wait_for_port
from tests.harness.servers.gateway import RunningGateway
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

_WRONG = "The frames came without positions of these joints: shoulder_pan."


def test_the_documents_example_has_the_joints_that_a_live_splat_needs() -> None:
    document = (ROOT / "docs/lerobot.md").read_text()
    (named,) = re.findall(r"^names = (\(.*\))$", document, re.MULTILINE)
    names = ast.literal_eval(named)
    assert set(SO101.tip_joint_names) <= set(names) <= set(SO101.joint_names)
    (offered,) = re.findall(r"^    streamer\.offer\((\(.*?\))\)", document, re.MULTILINE)
    assert len(ast.literal_eval(offered)) == len(names)


@pytest.mark.anyio
async def test_why_frames_are_rejected_is_shown(
    session_gateway: RunningGateway, caplog: pytest.LogCaptureFixture
) -> None:
    running, stop, port = session_gateway, asyncio.Event(), free_port()
    url = f"http://{HOST}:{port}"
    serving = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=False, stop=stop))
    try:
        await asyncio.to_thread(wait_for_port, port)
        session_id = (await running.http.post("/v1/sessions", json={"workload": "streamed"})).json()["id"]
        async with run_scripted_worker(running, session_id) as worker:
            await worker.claim()
            worker.wrong = SaccadeError(ErrorCode.JOINTS_INVALID, _WRONG)
            await running.http.post(f"/v1/sessions/{session_id}/frames", content=jpeg())
            session = await asyncio.to_thread(find_session, url, session_id)
            streamer = Streamer(session.target, names=())
            try:
                async with asyncio.timeout(20):
                    while streamer.stats().last_rejection is None:
                        await asyncio.sleep(0.05)
            finally:
                stats = await asyncio.to_thread(streamer.close)
            frames = (await running.http.get(f"/v1/sessions/{session_id}")).json()["frames"]
            command = [sys.executable, "-m", "cli", "sessions", "show", session_id, "--url", url]
            shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    finally:
        stop.set()
        await serving
    assert (frames["rejected"], frames["reasons"]) == (1, {"joints_invalid": 1})
    assert (frames["last_rejection"]["reason"], frames["last_rejection"]["detail"]) == ("joints_invalid", _WRONG)
    assert (stats.frames_accepted, stats.frames_rejected) == (0, 1)
    assert stats.last_rejection == f"joints_invalid: {_WRONG}"
    assert f"the session rejects frames (1 so far): joints_invalid: {_WRONG}" in caplog.text
    assert "1 joints_invalid" in shown.stdout
    assert f"{_WRONG} (joints_invalid)" in shown.stdout
