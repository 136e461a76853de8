"""docker-compose up, then a stranger's first job through the one origin, and nothing left afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.harness.servers.gateway import picture
from tests.harness.servers.own_service import PATHS, OwnService
from tests.harness.vision.short_laps import render_short_laps
from tests.system.compose import ROOT, ComposedSystem, compose_command
from tests.system.documents import Checkout, blocks_of, check_out

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedSystem]:
    if compose_command() is None:
        pytest.skip("no Docker Compose")
    with ComposedSystem(tmp_path_factory.mktemp("compose")) as composed:
        yield composed
    names = ["--filter", f"label=com.docker.compose.project={composed.project}", "-q"]
    for left in (["ps", "-a", *names], ["volume", "ls", *names], ["network", "ls", *names]):
        assert subprocess.run(["docker", *left], capture_output=True, check=True, timeout=300).stdout == b""


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Film two short laps."""
    return render_short_laps(tmp_path_factory.mktemp("laps"))


def test_every_service_is_well_and_runs_as_nobody(system: ComposedSystem) -> None:
    for service in ("gateway", "dispatcher", "notifier", "bucket-proxy", "origin"):
        container = system.healthy(service)
        assert container["Config"]["User"] == "saccade"
        assert container["HostConfig"]["ReadonlyRootfs"]
    for service in ("nats", "s3"):
        container = system.healthy(service)
        assert container["Config"]["User"] == "10001:10001"
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]


def test_the_logs_name_the_address(system: ComposedSystem) -> None:
    assert f"Saccade is ready: open {system.url}/console in a browser (API reference: /docs)" in system.compose(
        "logs", "--no-color", "origin"
    )


def test_what_the_image_of_the_workers_lacks_is_refused_with_the_line_that_builds_it(system: ComposedSystem) -> None:
    with system.client(system.api_key) as client:
        listed = {one["name"]: one for one in client.get("/v1/workloads").json()["data"]}
        assert {name for name, one in listed.items() if one["available"]} == {
            "lap_compare",
            "lap_detection",
            "badminton",
        }
        assert listed["nerf"]["missing"] == ["pi_heif", "pycolmap", "torch"]
        photo = {"filename": "a.jpg", "content_type": "image/jpeg", "size_bytes": 10, "workload": "nerf"}
        sessions = [("/v1/sessions", {"workload": name}) for name in ("live_splat", "vision_stream")]
        for route, body in [("/v1/uploads", photo), *sessions]:
            refused = client.post(route, json=body)
            assert (refused.status_code, refused.json()["code"]) == (422, "backend_not_installed")
            assert "SACCADE_WORKLOADS=all docker-compose up --build" in refused.json()["hint"]
        # Clients of the replaced systems, which know a form and a list of photos only.
        photo_bytes = picture()
        sent = {"filename": "a.png", "content_type": "image/png", "size_bytes": len(photo_bytes)}
        upload = client.post("/v1/uploads", json=sent).json()
        httpx.put(upload["url"], content=photo_bytes, headers=upload["headers"]).raise_for_status()
        client.post(f"/v1/uploads/{upload['id']}/complete").raise_for_status()
        for refused in (
            client.post("/upload-frame", files={"file": ("a.png", photo_bytes, "image/png")}),
            client.post("/api/nerf/colmap", json={"job_id": "shoe", "image_paths": [upload["id"]]}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (422, "backend_not_installed")
            assert "SACCADE_WORKLOADS=all docker-compose up --build" in refused.json()["hint"]
        assert client.get("/status").json()["trainer_ready"] is False


def test_the_image_of_the_workers_runs_them_on_modal_too(system: ComposedSystem) -> None:
    """With its client in the pinned version; without a bucket that Modal reaches and a token nothing can be started."""
    imported = "import services.dispatcher.executors.modal_executor, modal; print(modal.__version__)"
    shown = system.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "python", "dispatcher", "-c", imported)
    assert f"modal=={shown.split()[-1]}" in (ROOT / "constraints.txt").read_text()


def test_only_a_key_lets_in(system: ComposedSystem) -> None:
    with system.client() as stranger, system.client("development.development-only") as developer:
        for client in (stranger, developer):
            answer = client.get("/v1/jobs")
            assert answer.status_code == 401
            assert answer.json()["code"] == "unauthenticated"
    with system.client(system.api_key) as client:
        assert client.get("/v1/jobs").json()["data"] == []
        refused = client.get("/v1/jobs", headers={"Host": "rebound.example.org"})
        assert (refused.status_code, refused.json()["code"]) == (403, "host_not_allowed")


def test_a_lap_comparison_from_upload_to_report(
    system: ComposedSystem, laps: tuple[Path, Path], tmp_path: Path
) -> None:
    lines = system.saccade("submit", "lap_compare", *map(str, laps), "--param", "overlay_height_px=180", "--watch")
    [shown] = system.saccade("job", _job_id(lines))
    assert shown["state"] == "succeeded", json.dumps(shown)
    system.saccade("artifacts", shown["id"], "--download", str(tmp_path))
    found = {path.name: path for path in tmp_path.rglob("*") if path.is_file()}
    assert {"report.html", "metrics.json", "delta.csv", "overlay.mp4"} <= found.keys()
    assert b"<html" in found["report.html"].read_bytes()[:2000]
    with system.client(system.other_key) as other:
        assert other.get(f"/v1/jobs/{shown['id']}").status_code == 404
        assert other.head(f"/v1/jobs/{shown['id']}/artifacts/overlay.mp4").status_code == 404
    with system.client(system.api_key) as client:
        artifact = f"/v1/jobs/{shown['id']}/artifacts/overlay.mp4"
        seen = client.get(artifact, headers={"Range": "bytes=-1000"}, follow_redirects=True)
        assert (seen.status_code, seen.content) == (206, found["overlay.mp4"].read_bytes()[-1000:])
        head = client.head(artifact, follow_redirects=True)
        assert (head.status_code, head.headers["content-length"]) == (200, str(found["overlay.mp4"].stat().st_size))
    told = _stream(system, f"/v1/jobs/{shown['id']}/events", {"Last-Event-ID": ""})
    assert told[0]["type"] == "job.submitted"
    assert told[-1]["type"] == "job.succeeded"
    assert sum(event["type"] == "job.succeeded" for event in told) == 1


def test_a_service_of_the_users_own_bills_the_jobs(system: ComposedSystem, tmp_path: Path) -> None:
    """The service and the commands of docs/own-service.md; the job of the test before waits for it."""
    command = [sys.executable, "-m", "cli", "key", "service", "billing", "--events", "job.succeeded"]
    done = subprocess.run(
        [*command, "--users", str(system.nats_users), "--json"],
        cwd=tmp_path,
        env=system.nats | {"PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    system.compose("kill", "-s", "HUP", "nats")
    service = OwnService(tmp_path, system.nats["NATS_URL"], tmp_path / "billing.creds")
    service.start()
    service.wait_for_bills(1)
    assert service.end(signal.SIGTERM) == 0
    with system.client(system.api_key) as client:
        jobs = client.get("/v1/jobs", params={"state": "succeeded"}).json()["data"]
    assert [job for job, _ in service.bills()] == [job["id"] for job in jobs]
    system.healthy("nats")


def test_the_readmes_commands_do_the_same_here(system: ComposedSystem, laps: tuple[Path, Path], tmp_path: Path) -> None:
    """With the address and the key in the environment; its curl example is for a system without keys."""
    check_out(tmp_path)
    for clip, name in zip(laps, ("A.mp4", "B.mp4"), strict=True):
        shutil.copy(clip, tmp_path / name)
    (block,) = (block for block in blocks_of("README.md") if "saccade submit lap_compare" in block.text)
    Checkout(tmp_path, system.url, system.api_key).run([block])
    assert (tmp_path / "results/report.html").stat().st_size > 10_000


def _job_id(lines: list[dict[str, object]]) -> str:
    found = [str(value) for line in lines for value in line.values() if str(value).startswith("job_")]
    assert found, lines
    return found[0]


def _stream(system: ComposedSystem, path: str, headers: dict[str, str]) -> list[dict[str, str]]:
    """Read a job's events through the origin until the server ends the stream."""
    with system.client(system.api_key) as client, client.stream("GET", path, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line.removeprefix("data:")) for line in answer.iter_lines() if line.startswith("data:")]


def test_text_that_calls_itself_a_video_is_refused(system: ComposedSystem) -> None:
    body = b"this is not a film\n" * 100
    with system.client(system.api_key) as client:
        wanted = {"filename": "lap.mp4", "content_type": "video/mp4", "size_bytes": len(body)}
        upload = client.post("/v1/uploads", json=wanted)
        assert upload.status_code == 201, upload.text
        assert upload.json()["url"].startswith(system.bucket_url)
        sent = httpx.put(upload.json()["url"], content=body, headers=upload.json()["headers"])
        assert sent.status_code == 200
        done = client.post(f"/v1/uploads/{upload.json()['id']}/complete")
        assert (done.status_code, done.json()["code"]) == (422, "media_undecodable")
        large = client.post("/v1/jobs", content=b" " * 4_000_000, headers={"Content-Type": "application/json"})
        assert large.status_code == 413


def test_webhooks_and_event_streams_go_through_the_one_origin(system: ComposedSystem) -> None:
    with system.client(system.api_key) as client:
        made = client.post("/v1/webhooks", json={"url": "https://hooks.example.com/x"})
        assert made.status_code == 201
        assert made.json()["secret"].startswith("whsec_")
        refused = client.post("/v1/webhooks", json={"url": "https://169.254.169.254/"})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_parameter")
        system.compose("stop", "notifier")
        # Any other status would end a browser's EventSource for ever.
        away = client.get("/v1/events")
        assert (away.status_code, away.headers["content-type"]) == (200, "text/event-stream")
        assert away.text == ":\nretry: 2000\n"
        assert client.get("/v1/webhooks").status_code == 503
        system.compose("start", "notifier")
        end = time.monotonic() + 60
        while (answer := client.get("/v1/webhooks")).status_code != 200:
            assert time.monotonic() < end, answer.text
            time.sleep(0.2)
        (seen,) = answer.json()["data"]
        assert seen["id"] == made.json()["id"]


def test_replays_store_copies_in_sandboxes_as_a_user_of_their_own(system: ComposedSystem) -> None:
    """The plan connects as that user: NATS has it from the same file and environment."""
    with system.client(system.operator_key) as client:
        planned = client.post("/v1/replays", json={"into": "sandbox:probe", "since": "60", "why": "test"})
        assert planned.status_code == 201, planned.text
        assert any("saccade key sandbox probe" in warning for warning in planned.json()["plan"]["warnings"])


def test_what_is_known_survives_a_restart_of_everything(system: ComposedSystem) -> None:
    with system.client(system.api_key) as client:
        before = client.get("/v1/jobs").json()["data"]
        system.compose("kill")
        system.compose("up", "-d")
        system.wait_until_ready()
        assert client.get("/v1/jobs").json()["data"] == before


def test_no_secret_reaches_a_log(system: ComposedSystem) -> None:
    logs = system.compose("logs", "--no-color")
    told = [name for name, secret in system.secrets.items() if secret in logs]
    assert told == []
    assert system.api_key.partition(".")[2] not in logs
