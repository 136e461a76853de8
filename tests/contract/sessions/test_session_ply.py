"""The newest model of a session: whole, or as many of its most important splats as a client can draw."""

from __future__ import annotations

import struct

import pytest

from contracts.ids import new_id
from contracts.session import job_id_of_session
from tests.harness.servers.gateway import RunningGateway, code_of
from tests.harness.sessions.scripted_session_worker import run_scripted_worker

pytestmark = pytest.mark.anyio

PROPERTIES = ("x", "y", "z", "opacity")


@pytest.fixture
def running(session_gateway: RunningGateway) -> RunningGateway:
    return session_gateway


def ply(splats: int, first: float = 0.0) -> bytes:
    """Write splats as rows of floats that count."""
    lines = ["ply", "format binary_little_endian 1.0", "comment element vertex 7", f"element vertex {splats}"]
    lines += [f"property float {name}" for name in PROPERTIES] + ["end_header", ""]
    rows = b"".join(struct.pack("<4f", *(first + number,) * 4) for number in range(splats))
    return "\n".join(lines).encode() + rows


async def session_with(running: RunningGateway, **files: bytes) -> str:
    session_id = str((await running.http.post("/v1/sessions", json={"workload": "streamed"})).json()["id"])
    for name, body in files.items():
        await running.bucket.put(running.bucket.key("results", job_id_of_session(session_id), f"{name}.ply"), body)
    return session_id


async def test_the_whole_model_is_sent_once_a_version(running: RunningGateway):
    model = ply(200_000)  # several pieces
    session_id = await session_with(running, live=model)
    answer = await running.http.get(f"/v1/sessions/{session_id}/ply")
    assert (answer.status_code, answer.content == model) == (200, True)
    assert answer.headers["content-length"] == str(len(model))
    mark = answer.headers["etag"]
    for given in (mark, f"W/{mark}", f'"other", {mark}', "*"):
        again = await running.http.get(f"/v1/sessions/{session_id}/ply", headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", mark)
    await running.bucket.put(running.bucket.key("results", job_id_of_session(session_id), "live.ply"), ply(3))
    newer = await running.http.get(f"/v1/sessions/{session_id}/ply", headers={"If-None-Match": mark})
    assert (newer.status_code, newer.content) == (200, ply(3))
    assert newer.headers["etag"] != mark


@pytest.mark.parametrize(
    ("wanted", "given"), [(1, 1), (2, 2), (150_000, 150_000), (200_000, 200_000), (10**9, 200_000)]
)
async def test_a_preview_is_the_first_of_the_sorted_splats(running: RunningGateway, wanted: int, given: int):
    session_id = await session_with(running, live=ply(200_000))
    answer = await running.http.get(f"/v1/sessions/{session_id}/ply", params={"max_splats": wanted})
    assert answer.status_code == 200
    assert answer.content == ply(given)
    assert answer.headers["content-length"] == str(len(ply(given)))
    mark = {"If-None-Match": answer.headers["etag"]}
    same = await running.http.get(f"/v1/sessions/{session_id}/ply", params={"max_splats": wanted}, headers=mark)
    other = await running.http.get(f"/v1/sessions/{session_id}/ply", params={"max_splats": 3}, headers=mark)
    assert (same.status_code, other.status_code) == (304, 200)


async def test_before_there_is_a_model(running: RunningGateway):
    session_id = await session_with(running)
    for query in ("", "?max_splats=5"):
        answer = await running.http.get(f"/v1/sessions/{session_id}/ply{query}")
        assert (answer.status_code, code_of(answer), answer.json()["retryable"]) == (409, "session_not_started", True)
    async with run_scripted_worker(running, session_id) as worker:
        await worker.claim()
        await worker.succeed()
    await running.http.get(f"/v1/sessions/{session_id}", headers={"Prefer": "wait=5"})
    over = await running.http.get(f"/v1/sessions/{session_id}/ply")
    assert (over.status_code, "stopped" in over.json()["detail"]) == (409, True)
    assert code_of(await running.http.get(f"/v1/sessions/{new_id('ses')}/ply")) == "session_not_found"
    assert code_of(await running.http.get(f"/v1/sessions/{session_id}/ply?max_splats=0")) == "invalid_parameter"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no ply at all",
        b"x" * 70_000,
        ply(4).replace(b"element vertex 4", b"element face 4"),
        ply(4).replace(b"property float x", b"property list uchar int x"),
    ],
)
async def test_a_file_that_is_no_model_is_not_passed_off_as_one(running: RunningGateway, broken: bytes):
    session_id = await session_with(running, live=broken)
    answer = await running.http.get(f"/v1/sessions/{session_id}/ply?max_splats=2")
    assert (answer.status_code, code_of(answer)) == (500, "internal")
