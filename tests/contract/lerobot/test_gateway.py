"""The robot client with the real gateway: opening a session, and telemetry by NATS and HTTP on one subject."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from saccade_robot import RobotClientError, Streamer, describe, find_session, open_session

from tests.contract.lerobot.test_streaming import DEGREES, JPEG, Arm
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.servers.gateway import picture
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.sessions.robot_server import NAMES, pose
from tests.harness.sessions.telemetry_listener import TelemetryListener, until


@contextmanager
def gateway(folder: Path, *, by_nats: bool) -> Iterator[tuple[str, EmbeddedNats]]:
    """Run a gateway that hands out a way by NATS, or does not."""
    for name in ("nats", "s3"):
        (folder / name).mkdir()
    port = free_port()
    with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3:
        environment = {
            "NATS_URL": nats.url,
            "S3_ENDPOINT_URL": s3.settings.endpoint_url,
            "S3_ACCESS_KEY_ID": s3.settings.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.settings.secret_access_key.get_secret_value(),
            "GATEWAY_PORT": str(port),
            # No worker starts here, and a live splat is taken where workers have it.
            "GATEWAY_BACKENDS": "torch",
            "GATEWAY_DATA_DIR": str(folder / "gateway"),
            **ONE_AUTHORITY,
        } | ({"GATEWAY_CLIENT_NATS_URL": nats.url} if by_nats else {})
        process = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_ready(port, process)
            yield f"http://{HOST}:{port}", nats
        finally:
            process.terminate()
            process.wait(10)


@pytest.mark.parametrize("by_nats", [True, False])
def test_a_session_opened_for_a_robot_gets_all_it_sends(tmp_path: Path, by_nats: bool) -> None:
    png = picture()
    arm = Arm()
    arm.connect()
    with gateway(tmp_path, by_nats=by_nats) as (url, nats):
        session = open_session(url, robot=describe(arm), idempotency_key="once")
        # Asked again with the same key, it is the same session.
        assert open_session(url, robot=describe(arm), idempotency_key="once").id == session.id
        assert (session.target.nats is not None) == by_nats
        shown = httpx.get(f"{url}/v1/sessions/{session.id}", trust_env=False).json()
        assert shown["params"]["robot"] == describe(arm).as_parameter()
        with (
            TelemetryListener(nats, session.id) as heard,
            Streamer(find_session(url, session.id).target, names=NAMES, scales=DEGREES, frame_rate_hz=1000) as s,
        ):
            until(lambda: s.stats().route == ("nats" if by_nats else "http"))
            for number in range(50):
                s.offer(pose(number), 1.7e9 + number / 100)
            s.offer_frame(png, "wrist", 1.7e9)
            until(lambda: s.stats().clock_offset_s is not None)
            until(lambda: s.stats().frames_sent == 1)
            stats = s.close()
        session.stop()
        stopping = httpx.get(f"{url}/v1/sessions/{session.id}", trust_env=False).json()
    assert (stats.offered, stats.sent, stats.errors) == (50, 50, 0)
    assert [sample.raw for sample in heard.samples()] == [pose(number) for number in range(50)]
    ((headers, body),) = heard.frames
    assert body == png
    assert headers["Frame-Source"] == "wrist"
    assert float(headers["Frame-Captured-At"]) == 1.7e9
    assert stopping["state"] in {"stopping", "stopped"}


def test_what_the_gateway_refuses_is_said_as_it_says_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with gateway(tmp_path, by_nats=False) as (url, _):
        with pytest.raises(RobotClientError) as unknown:
            find_session(url, "ses_0198f0a0-0000-7000-8000-00000000ffff")
        assert (unknown.value.code, unknown.value.status) == ("session_not_found", 404)
        with pytest.raises(RobotClientError) as wrong:
            open_session(url, params={"max_splats": -1})
        assert wrong.value.code == "invalid_parameter"
        session = open_session(url)
        with Streamer(session.target, names=NAMES, frame_rate_hz=1000) as streamer:
            streamer.offer_frame(JPEG)  # begins like a JPEG and is none
            until(lambda: streamer.stats().frames_dropped == 1)
        assert "frame_unreadable" in caplog.text
