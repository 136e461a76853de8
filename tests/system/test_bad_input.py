"""Whatever a stranger sends through the whole system gets a clear answer, and harms nobody."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from saccade_client import Client, ClientError, JobView

from cli.jobs.follow import failure_of
from contracts.errors import KINDS, ErrorCode
from kit.process_tree import marked_processes
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.harness.vision.lap_videos import moving_pictures, write_clip
from tests.system.embedded import SystemProcess, run, up

RATE_HZ = 20
FRAMES = 60
KEYS = {"ours": "first-secret", "theirs": "second-secret"}
WAIT_S = 60
NOWHERE = "upl_0198c0de-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemProcess]:
    """Start one system with two tenants; at its end nobody has stumbled and no worker is left."""
    folder = tmp_path_factory.mktemp("stranger")
    entries = [
        {
            "id": tenant,
            "sha256": hashlib.sha256(secret.encode()).hexdigest(),
            "tenant": tenant,
            "scopes": ["read", "write"],
        }
        for tenant, secret in KEYS.items()
    ]
    (folder / "keys.json").write_text(json.dumps(entries))
    with up(folder / "data", SACCADE_API_KEYS_FILE=str(folder / "keys.json")) as started:
        started.ready()
        yield started
        logs = [path.read_text() for path in (started.data / "dispatcher" / "runs").glob("run_*/worker.log")]
        assert any(re.search("job's thread is held by: .*seccomp", log) for log in logs)
        assert not any(
            marked_processes(run_folder) for run_folder in (started.data / "dispatcher" / "runs").glob("run_*")
        )
        assert started.stop() == 0
        for log in (started.data / "logs").glob("*.log"):
            assert "Traceback" not in log.read_text(), log.name


@pytest.fixture(scope="module")
def url(system: SystemProcess) -> str:
    return str(system.said[-1]["url"])


def key_of(tenant: str) -> str:
    return f"{tenant}.{KEYS[tenant]}"


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Client]:
    with Client(url, key_of("ours")) as ours:
        yield ours


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make small clips: a good one, and what strangers make of it."""
    folder = tmp_path_factory.mktemp("clips")
    times_s = [index / RATE_HZ for index in range(FRAMES)]
    good = moving_pictures(FRAMES)
    write_clip(folder / "good.mp4", good, times_s)
    write_clip(folder / "again.mp4", good, times_s, crf="30")
    write_clip(folder / "odd.mp4", [np.pad(one, ((0, 1), (0, 1), (0, 0)), "edge") for one in good], times_s)
    write_clip(folder / "elsewhere.mp4", moving_pictures(FRAMES, seed=1), times_s)
    write_clip(folder / "backwards.mp4", good[::-1], times_s)
    write_clip(folder / "still.mp4", [good[0]] * FRAMES, times_s)
    write_clip(folder / "one_frame.mp4", good[:1], times_s[:1])
    write_clip(folder / "<b>\"Läp' & 周.mp4", good, times_s)
    whole = (folder / "good.mp4").read_bytes()
    (folder / "cut_off.mp4").write_bytes(whole[: whole.find(b"mdat") + (len(whole) - whole.find(b"mdat")) * 9 // 10])
    (folder / "no_index.mp4").write_bytes(whole[whole.find(b"mdat") - 4 :])
    (folder / "text.mp4").write_text("these are words and no video\n" * 200)
    (folder / "empty.mp4").write_bytes(b"")
    _write_sound(folder / "sound.mp4")
    return folder


def _write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        for number in range(40):
            wave = np.sin(np.arange(1024) * 0.05)[np.newaxis].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44_100, number * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def upload(client: Client, clips: Path) -> Callable[[str], str]:
    """Return the id of a clip's upload, each sent once."""
    sent: dict[str, str] = {}

    def send(name: str) -> str:
        if name not in sent:
            sent[name] = client.upload(clips / name).id
        return sent[name]

    return send


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("empty.mp4", "upload_empty"),
        ("text.mp4", "media_undecodable"),
        ("no_index.mp4", "media_undecodable"),
        ("sound.mp4", "media_no_video"),
    ],
)
def test_a_file_without_a_video_is_refused_before_any_job(client: Client, clips: Path, name: str, code: str) -> None:
    with pytest.raises(ClientError) as refused:
        client.upload(clips / name)
    assert refused.value.code == code
    assert refused.value.hint


def test_more_bytes_than_declared_and_other_bytes_than_declared(client: Client, clips: Path) -> None:
    body = (clips / "good.mp4").read_bytes()
    announced = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(body) - 7}
    created = post(client, "/v1/uploads", announced).json()
    assert httpx.put(created["url"], content=body, headers=created["headers"]).status_code == 403
    assert post(client, f"/v1/uploads/{created['id']}/complete").json()["code"] == "upload_bytes_missing"
    for told, code in (
        ({"size_bytes": len(body), "content_type": "image/png"}, "unsupported_media_type"),
        ({"size_bytes": len(body), "sha256": "0" * 64}, "upload_checksum_mismatch"),
    ):
        created = post(client, "/v1/uploads", {"filename": "a.mp4", "content_type": "video/mp4"} | told).json()
        assert httpx.put(created["url"], content=body, headers=created["headers"]).is_success
        for _ in range(2):  # a refusal is for ever
            assert post(client, f"/v1/uploads/{created['id']}/complete").json()["code"] == code


def post(client: Client, path: str, body: Any = None, tenant: str = "ours", **headers: str) -> httpx.Response:
    sent = {"Authorization": f"Bearer {key_of(tenant)}"} | headers
    return httpx.post(client.url + path, json=body, headers=sent, timeout=30, verify=NO_CERTIFICATES)


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        ({"workload": "lap_comparison"}, "unknown_workload", None),
        ({"params": {"secters": 3}}, "unknown_parameter", "#/params/secters"),
        ({"params": {"sectors": 99}}, "invalid_parameter", "#/params/sectors"),
        ({"params": {"sectors": [5, 3]}}, "invalid_parameter", "#/params/sectors"),
        ({"params": {"detect": "yolo"}}, "backend_not_installed", "#/params/detect"),
        ({"parms": {}}, "unknown_parameter", "#/parms"),
        ({"inputs": {}}, "missing_input", "#/inputs/reference"),
        ({"inputs": {"reference": NOWHERE, "other": NOWHERE}}, "upload_not_found", None),
        ({"metadata": {"note": "x" * 1_000_000}}, "body_too_large", None),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_the_place(
    client: Client, upload: Callable[[str], str], change: dict[str, Any], code: str, where: str | None
) -> None:
    answer = post(client, "/v1/jobs", laps(upload("good.mp4")) | change)
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (KINDS[ErrorCode(code)].status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["hint"]
    # Neither a branch of a union nor an address in memory: places are those of what was sent.
    assert where is None or problem["errors"][0]["pointer"] == where
    assert "functools" not in answer.text


def laps(upload_id: str) -> dict[str, Any]:
    return {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}


def test_what_is_anothers_is_not_there(client: Client, upload: Callable[[str], str]) -> None:
    answer = post(client, "/v1/jobs", laps(upload("good.mp4")), tenant="theirs")
    assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")
    assert httpx.get(client.url + "/v1/jobs").json()["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "receiver", ["http://127.0.0.1:3000/", "https://127.0.0.1:3000/", "https://localhost/", "https://[::1]/"]
)
def test_a_key_does_not_reach_the_servers_loopback(client: Client, receiver: str) -> None:
    """Without keys `saccade up` sends webhooks to this machine; a key's holder is anyone."""
    refused = post(client, "/v1/webhooks", {"url": receiver})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter"), refused.text
    job = laps(NOWHERE) | {"webhook_url": "http://127.0.0.1:3000/"}
    assert "webhook_url" in post(client, "/v1/jobs", job).json()["detail"]


def test_idempotency_keys(client: Client, upload: Callable[[str], str]) -> None:
    body = laps(upload("good.mp4"))
    assert post(client, "/v1/jobs", body, **{"Idempotency-Key": "x" * 300}).json()["code"] == "idempotency_key_invalid"
    first, again = (post(client, "/v1/jobs", body, **{"Idempotency-Key": "once"}).json() for _ in range(2))
    assert first["id"] == again["id"]
    other = post(client, "/v1/jobs", body | {"params": {"sectors": 2}}, **{"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert client.job(first["id"], wait_s=WAIT_S).state == "succeeded"


@pytest.fixture(scope="module")
def jobs(client: Client, upload: Callable[[str], str]) -> dict[str, JobView]:
    """Compare the good clip with every other one, all at once, and give how each job ended."""
    names = (
        "again.mp4", "odd.mp4", "cut_off.mp4", "<b>\"Läp' & 周.mp4",
        "one_frame.mp4", "still.mp4", "backwards.mp4", "elsewhere.mp4",
    )  # fmt: skip
    ids = {}
    for name in names:
        inputs = {"reference": upload("good.mp4"), "other": upload(name)}
        ids[name] = client.submit("lap_compare", inputs, {"overlay_height_px": 180, "flow": "off"}).id
    return {name: client.job(job_id, wait_s=WAIT_S) for name, job_id in ids.items()}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("one_frame.mp4", "clip_too_short"),
        ("still.mp4", "clip_static"),
        ("backwards.mp4", "clips_opposite_directions"),
        ("elsewhere.mp4", "clips_different_places"),
    ],
)
def test_clips_that_cannot_be_compared_fail_once_and_say_why(
    client: Client, jobs: dict[str, JobView], name: str, code: str
) -> None:
    job = jobs[name]
    assert job.state == "failed"
    told = failure_of(job)
    assert told.code == code
    assert name in told.message
    assert told.hint
    assert job.attempt == 1
    types = [event.type for event in client.events(job.id)]
    assert types[-1] == "job.failed"
    assert "job.retrying" not in types


def test_equal_clips_have_no_delta_whatever_their_shape(jobs: dict[str, JobView]) -> None:
    for name in ("again.mp4", "odd.mp4", "<b>\"Läp' & 周.mp4"):
        job = jobs[name]
        assert job.state == "succeeded", (name, job.error)
        assert job.result
        assert abs(job.result["delta_s"]) < 1 / RATE_HZ, name
        assert all(abs(sector["delta_s"]) < 1 / RATE_HZ for sector in job.result["sectors"]), name


def test_a_recording_that_breaks_off_is_compared_as_far_as_it_goes(jobs: dict[str, JobView]) -> None:
    job = jobs["cut_off.mp4"]
    assert job.state == "succeeded", job.error
    assert job.result
    assert any("cut_off.mp4" in warning for warning in job.result["warnings"])


def test_a_name_is_text_in_the_report(client: Client, jobs: dict[str, JobView], tmp_path: Path) -> None:
    (report,) = client.download(jobs["<b>\"Läp' & 周.mp4"].id, tmp_path, names=["report.html"])
    text = report.read_text()
    assert "<b>&quot;Läp" not in text
    assert '<b>"Läp' not in text.replace("<\\/", "</")
    assert "&lt;b&gt;" in text


def test_the_command_says_what_is_wrong_in_one_line(url: str, clips: Path, jobs: dict[str, JobView]) -> None:
    def say(*words: str) -> str:
        done = run(*words, "--url", url, cwd=clips, SACCADE_API_KEY=key_of("ours"))
        assert "Traceback" not in done.stderr
        return done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1 if "--json" in words else -2]

    assert say("submit", "lap_compare", "good.mp4", "text.mp4").startswith("error: text.mp4: ")
    assert "cut_off.mp4" in say("job", jobs["cut_off.mp4"].id)
    keyed = say("submit", "lap_compare", "good.mp4", "good.mp4", "--idempotency-key", "schlüssel", "--json")
    assert json.loads(keyed)["error"]["code"] == "idempotency_key_invalid"
    into_a_file = say("artifacts", jobs["again.mp4"].id, "--download", "good.mp4/below", "--json")
    assert json.loads(into_a_file)["error"]["code"] == "file_system"
    assert json.loads(say("jobs", "--state", "asleep", "--json"))["error"]["code"] == "usage"
