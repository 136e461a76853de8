"""``saccade up --executor modal``: what it refuses, and a job of a whole embedded system in the stand-in for Modal."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from modal_workers.deployment import SECRET
from tests.harness.runtime.executor_environment import deploy
from tests.modal_loopback import running
from tests.system.embedded import run, up, wait_until
from tests.system.test_embedded_errors import refused

BUCKET = {"S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b"}
ORIGIN = {"SACCADE_PUBLIC_URL": "https://vision.example.com"}


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ({}, "public_url_required", "SACCADE_PUBLIC_URL"),
        ({"SACCADE_PUBLIC_URL": "http://vision.example.com"}, "public_url_required", "https://"),
        ({"SACCADE_PUBLIC_URL": "https://localhost:8080"}, "public_url_required", "SACCADE_PUBLIC_URL"),
        ({"SACCADE_PUBLIC_URL": "https://192.168.1.5"}, "public_url_required", "SACCADE_PUBLIC_URL"),
        (ORIGIN, "bucket_required", "S3_"),
        (ORIGIN | BUCKET | {"S3_ENDPOINT_URL": "http://127.0.0.1:9000"}, "bucket_required", "S3_"),
        (ORIGIN | BUCKET | {"S3_ENDPOINT_URL": "http://minio:9000"}, "bucket_required", "S3_"),
        (ORIGIN | BUCKET | {"S3_ENDPOINT_URL": "https://s3.example.com"}, "keys_required", "SACCADE_API_KEYS_FILE"),
    ],
)
def test_what_modal_cannot_reach_is_refused_before_anything_starts(
    tmp_path: Path, given: dict[str, str], code: str, told: str
) -> None:
    text = refused(run("up", "--executor", "modal", cwd=tmp_path, MODAL_SERVER_URL="", **given), code)
    assert told in text
    assert not (tmp_path / ".saccade").exists()


def test_without_a_token_the_dispatcher_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"MODAL_SERVER_URL": "http://127.0.0.1:9", "MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    config = {"MODAL_CONFIG_PATH": str(tmp_path / "none.toml")}
    done = run("up", "--executor", "modal", "--port", "0", cwd=tmp_path, **nowhere, **config)
    assert "MODAL_TOKEN_ID" in refused(done, "program_failed")


def test_a_job_runs_on_modal_and_its_events_come_through_the_gateway(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running(tmp_path) as modal:
        given = modal.environment | {"WORKER_CATALOG": "tests.workers"}
        with up(data, "--executor", "modal", **given) as system:
            ready = system.ready()
            secrets, ports = (json.loads((data / name).read_text()) for name in ("secrets.json", "ports.json"))
            modal.secrets[SECRET] = {
                "S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['rclone']}",
                "S3_BUCKET": "saccade",
                "S3_ACCESS_KEY_ID": secrets["s3_access_key_id"],
                "S3_SECRET_ACCESS_KEY": secrets["s3_secret_access_key"],
            }
            deploy(modal, ["tests.workers.scripted.app"])
            steps = json.dumps(["stage first", "save one.bin 4096", "stage second", "work 2"])
            words = ("submit", "scripted", "--param", f"script={steps}", "--json", "--url", str(ready["url"]))
            done = run(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            job_id = json.loads(done.stdout)["id"]
            wait_until(lambda: state(tmp_path, ready["url"], job_id) == "running", "the job runs")
            os.kill(ready["processes"]["dispatcher"], signal.SIGKILL)
            wait_until(lambda: state(tmp_path, ready["url"], job_id) == "succeeded", "the job ends")
            job = json.loads(said(tmp_path, ready["url"], "job", job_id).stdout)
            assert job["attempt"] == 1
            fetched = said(tmp_path, ready["url"], "artifacts", job_id, "--download", "files")
            first = json.loads(fetched.stdout.splitlines()[0])
            assert Path(first["path"]).read_bytes() == bytes(range(256)) * 16
            assert sum(len(one.calls) for one in modal.containers) == 1, "what the first dispatcher launched went on"
            assert system.stop() == 0
        assert stat.S_IMODE((data / "workers.seed").stat().st_mode) == 0o600
        assert (data / "workers.seed").read_text() not in "".join(
            file.read_text() for file in (data / "logs").glob("*.log")
        )
        assert modal.unimplemented == set()


def said(folder: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    done = run(*words, "--url", url, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


def state(folder: Path, url: str, job_id: str) -> str:
    return str(json.loads(said(folder, url, "job", job_id).stdout)["state"])
