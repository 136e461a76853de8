"""Frames and joints by HTTP: each that is sent is passed on or refused with a reason, and its worker counts all."""

from __future__ import annotations

import asyncio
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from contracts.limits import FRAME_BYTES, FRAME_SIDE_PX
from contracts.telemetry import JointBatch
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway
from tests.harness.sessions.scripted_session_worker import batch, jpeg, opened, run_scripted_worker, send, shown

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
NAMES = ["pan", "lift"]


@pytest.fixture
def running(session_gateway: RunningGateway) -> RunningGateway:
    return session_gateway


async def test_every_refused_frame_is_counted_by_the_worker(running: RunningGateway):
    found = await opened(running)
    bomb = bytearray(picture())
    bomb[16:24] = (FRAME_SIDE_PX + 1).to_bytes(4) + (10).to_bytes(4)
    cases = [
        (b"", 422, "frame_empty"),
        (b"x" * (FRAME_BYTES + 1), 413, "frame_too_large"),
        (b"\xff\xd8" + bytes(50_000_000), 413, "frame_too_large"),
        (bytes(bomb), 413, "frame_too_large"),
        (b"GIF89a" + bytes(100), 422, "frame_unreadable"),
        (jpeg()[:100], 422, "frame_unreadable"),
        (picture()[:20], 422, "frame_unreadable"),
    ]
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        for number, (body, status, code) in enumerate(cases):
            answer = await send(running, found["id"], body, X_Frame_Seq=str(number))
            assert (answer.status_code, code_of(answer)) == (status, code), number
            assert (answer.json()["seq"], answer.json()["source"]) == (number, "camera")
        assert (await send(running, found["id"], picture(), X_Frame_Seq="99")).status_code == 202
        await worker.heard(frames=len(cases) + 1)
        assert [one.headers.get("Frame-Refused") for one in worker.frames] == [*(one[2] for one in cases), None]
        assert not any(one.data for one in worker.frames[:-1])
        assert worker.frames[-1].headers["Content-Type"] == "image/png"
        async with asyncio.timeout(20):
            while (counts := (await shown(running, found["id"]))["frames"])["sent"] < len(cases) + 1:
                await asyncio.sleep(0.02)
        assert (counts["rejected"], counts["accepted"]) == (len(cases), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Frame-Seq", "-1"),
        ("X-Frame-Seq", "one"),
        ("X-Frame-Seq", str(1 << 53)),
        ("X-Frame-Captured-At", "nan"),
        ("X-Frame-Captured-At", "0"),
        ("X-Frame-Captured-At", "2026-01-01"),
        ("X-Frame-Clock-Offset", "inf"),
        ("X-Frame-Source", "a b"),
        ("X-Frame-Source", "x" * 65),
    ],
)
async def test_headers_that_say_nothing_are_refused(running: RunningGateway, name: str, value: str):
    found = await opened(running)
    answer = await send(running, found["id"], **{name: value})
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
    assert answer.json()["errors"][0]["parameter"].lower() == name.lower()


async def test_a_form_brings_a_frame_too(running: RunningGateway):
    found = await opened(running)
    path = f"/v1/sessions/{found['id']}/frames"
    async with run_scripted_worker(running, found["id"]) as worker:
        answer = await running.http.post(path, files={"other": b"x", "file": ("a.jpg", jpeg(), "image/jpeg")})
        assert answer.status_code == 202, answer.text
        await worker.heard(frames=1)
        assert worker.frames[0].data == jpeg()
    assert code_of(await running.http.post(path, files={"picture": jpeg()})) == "invalid_parameter"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    for broken in (b"", b"--b\r\n", b"--b\r\n\r\n\r\n--b", b"--b\r\nnothing\r\n--b--"):
        assert code_of(await running.http.post(path, content=broken, headers=kind)) == "malformed_request"
    kind = {"Content-Type": "multipart/form-data"}
    assert code_of(await running.http.post(path, content=b"x", headers=kind)) == "malformed_request"


async def test_the_newest_frame_is_a_picture_until_one_is_refused(running: RunningGateway):
    found = await opened(running)
    path = f"/v1/sessions/{found['id']}/frame"
    assert code_of(await running.http.get(path)) == "session_not_started"
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        for number, body in enumerate([jpeg(), picture()]):
            assert (await send(running, found["id"], body, X_Frame_Seq=str(number))).status_code == 202
        answer = await running.http.get(path)
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", picture())
        await send(running, found["id"], b"GIF89a" + bytes(100), X_Frame_Seq="2")
        assert code_of(await running.http.get(path)) == "session_not_started"
    assert code_of(await running.http.get("/v1/sessions/ses_00000000000000000000000000/frame")) == "session_not_found"


async def test_who_waits_gets_the_verdict(running: RunningGateway):
    found = await opened(running)
    nothing = await send(running, found["id"], X_Frame_Seq="1", Prefer="wait=1")
    assert (nothing.status_code, nothing.json()["status"]) == (202, "received")
    async with run_scripted_worker(running, found["id"]) as worker:
        await worker.claim()
        answer = await send(running, found["id"], X_Frame_Seq="2", Prefer="wait=5")
        assert (answer.status_code, answer.json()["status"], answer.json()["seq"]) == (200, "accepted", 2)


async def test_frames_without_numbers_are_numbered_and_go_on_after_a_restart(session_servers: Servers, tmp_path: Path):
    numbers = []
    for _ in range(2):
        async with running_gateway(*session_servers, tmp_path) as running:
            found = await opened(running)
            numbers += [(await send(running, found["id"])).json()["seq"] for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert abs(numbers[-1] / 1e6 - time.time()) < 60


async def test_joints_are_passed_on_and_what_looks_wrong_is_said(running: RunningGateway):
    found = await opened(running)
    path = f"/v1/sessions/{found['id']}/joints"
    async with run_scripted_worker(running, found["id"]) as worker:
        answer = await running.http.post(path, json=batch((0.1, 0.2), (0.3, 0.4), offered=7, dropped=5))
        assert (answer.status_code, answer.json()) == (202, {"received": 2, "warnings": []})
        await worker.heard(joints=1)
        stored = JointBatch.model_validate_json(worker.joints[0].data)
        assert [(one.seq, one.captured_at_s, one.positions) for one in stored.samples] == [
            (0, 1e9, (0.1, 0.2)),
            (1, 1e9 + 1, (0.3, 0.4)),
        ]
        assert (stored.offered, stored.dropped) == (7, 5)
        degrees = (await running.http.post(path, json=batch((0, 0), (45, 0)))).json()["warnings"]
        assert degrees == ["pan: 45 rad is beyond its limits, -1.92 to 1.92 rad; it looks like degrees."]
        beyond = (await running.http.post(path, json=batch((0, -2.5)))).json()["warnings"]
        assert beyond == ["lift: -2.5 rad is beyond its limits, -1.75 to 1.75 rad."]
        native = (await running.http.post(path, json=batch((2048, 1024), unit="native"))).json()["warnings"]
        assert len(native) == 1
        fewer = {"names": ["pan"], "unit": "rad", "samples": [[0, 1e9, [0]]]}
        assert "lift" in (await running.http.post(path, json=fewer)).json()["warnings"][0]


@pytest.mark.parametrize(
    "samples",
    [
        [[0, 1e9, [0.1]]],
        [[0, 1e9, [0.1, 0.2, 0.3]]],
        [[0, 1e9, [0.1, math.nan]]],
        [[0, 1e9, [0.1, math.inf]]],
        [[0, 1e9, [0.1, None]]],
        [[0, 1e9, [0.1, "x"]]],
        [[0, 1e9, [0.1, True]]],
        [[0, 1e9, [0.1, "0.2"]]],
        [[True, 1e9, [0.1, 0.2]]],
        [[0, True, [0.1, 0.2]]],
        [[-1, 1e9, [0.1, 0.2]]],
        [[0, 0, [0.1, 0.2]]],
        [[0, 1e9]],
        [],
        [[number, 1e9, [0, 0]] for number in range(1001)],
    ],
)
async def test_joints_that_cannot_be_used(running: RunningGateway, samples: list[Any]):
    found = await opened(running)
    body = json.dumps({"names": NAMES, "unit": "rad", "samples": samples})
    answer = await running.http.post(f"/v1/sessions/{found['id']}/joints", content=body)
    assert (answer.status_code, code_of(answer)) == (422, "joints_invalid")
    assert answer.json()["errors"][0]["pointer"].startswith("#")


async def test_joints_that_are_no_json_or_too_many(running: RunningGateway):
    path = f"/v1/sessions/{(await opened(running))['id']}/joints"
    assert code_of(await running.http.post(path, content=b"{")) == "malformed_request"
    assert code_of(await running.http.post(path, content=b"x" * (2 << 20))) == "body_too_large"
    half = await running.http.post(path, content=json.dumps({"names": ["\ud83d"], "unit": "rad", "samples": []}))
    assert (half.status_code, code_of(half)) == (422, "invalid_parameter")
    assert half.json()["errors"][0]["pointer"] == "#/names/0"


async def test_half_a_surrogate_is_no_text_of_a_session(running: RunningGateway):
    for body, pointer in (
        ({"metadata": {"a": "\udfff"}}, "#/metadata/a"),
        ({"params": {"robot": {"calibration": {"a": ["\udfff"]}}}}, "#/params/robot/calibration/a/0"),
        ({"idle_timeout_s": True}, "#/idle_timeout_s"),
    ):
        sent = json.dumps({"workload": "streamed"} | body)
        answer = await running.http.post("/v1/sessions", content=sent, headers={"Content-Type": "application/json"})
        assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
        assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
