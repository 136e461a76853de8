"""The command ``saccade doctor`` and set-ups that are really wrong: variables, secrets, ports, Modal, the disk."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.settings import inherited_environment
from modal_workers.deployment import SECRET, deployed_version
from tests.harness.dispatch.modal_command import BUCKET, Command
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.modal_loopback import Loopback, running
from tests.rules.tree import ROOT

Findings = list[dict[str, Any]]
PUBLISHED, OWN = "development-only-secret-key", "a-secret-of-the-operator"
OLDER = "0123456789ab"


def doctor(folder: Path, *words: str, code: int, **variables: str) -> Findings:
    """Run the command with these variables alone; no secret among them may be printed."""
    environment = inherited_environment(("PATH", "LANG")) | ONE_AUTHORITY | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(
        [sys.executable, "-m", "cli", "doctor", "--json", *words],
        env=environment | {"HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    assert OWN not in done.stdout
    assert all(finding["fix"] for finding in found if finding["outcome"] != "ok")
    return found


def failures(found: Findings) -> list[str]:
    return [finding["check"] for finding in found if finding["outcome"] == "FAIL"]


def test_before_a_start_it_says_what_to_do_and_fails_nothing(tmp_path: Path) -> None:
    found = doctor(tmp_path, "--port", str(free_port()), code=0)
    assert failures(found) == []
    assert {finding["check"] for finding in found if finding["outcome"] == "warn"} - {"disk"} == {
        "bus", "bucket", "services",
    }  # fmt: skip
    assert not (tmp_path / ".saccade").exists(), "it makes nothing"


def test_a_misspelt_variable_a_value_out_of_range_and_a_missing_keys_file_are_found(tmp_path: Path) -> None:
    given = {
        "GATEWAY_PROT": "8081", "DISPATCH_SLOTS": "4", "NOTIFIER_PORT": "99999",
        "SACCADE_API_KEYS_FILE": str(tmp_path / "nowhere.json"), "GATEWAY_SERVICE_HOST": "10.0.0.7",
    }  # fmt: skip
    found = doctor(tmp_path, "--port", str(free_port()), code=1, **given)
    said = {finding["message"].split()[0].rstrip(":"): finding for finding in found if finding["outcome"] == "FAIL"}
    assert set(said) == {"GATEWAY_PROT", "DISPATCH_SLOTS", "NOTIFIER_PORT", "SACCADE_API_KEYS_FILE"}
    assert said["GATEWAY_PROT"]["fix"] == "Did you mean GATEWAY_PORT?"
    assert said["DISPATCH_SLOTS"]["fix"] == "Did you mean DISPATCHER_SLOTS?"


@pytest.mark.parametrize("host", ["vision.example.com", "localhost"])
def test_a_published_secret_is_a_failure_where_others_reach_the_server(tmp_path: Path, host: str) -> None:
    given = {"NOTIFIER_SECRET_KEY": PUBLISHED, "NOTIFIER_TICKET_KEY": OWN, "SACCADE_ALLOWED_HOSTS": host}
    public = host != "localhost"
    found = doctor(tmp_path, "--port", str(free_port()), code=int(public), **given)
    told = [finding for finding in found if finding["check"] in ("secrets", "settings")]
    assert [(finding["check"], finding["outcome"]) for finding in told] == [("secrets", "FAIL" if public else "warn")]
    assert "NOTIFIER_SECRET_KEY" in told[0]["message"]
    assert "NOTIFIER_TICKET_KEY" not in told[0]["message"]


def test_a_port_that_another_program_holds_is_found_with_that_program(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind((HOST, 0))
        held.listen()
        port = held.getsockname()[1]
        found = doctor(tmp_path, "--port", str(port), code=1)
    assert failures(found) == ["port"]
    told = next(finding for finding in found if finding["check"] == "port")
    assert f"(process {os.getpid()})" in told["message"]
    assert "saccade up --port" in told["fix"]


def test_the_environment_file_of_compose_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    ports = {"SACCADE_PORT": str(free_port()), "S3_PORT": str(free_port())}
    values = ports | {
        "NATS_PASSWORD": "change-me", "S3_SECRET_ACCESS_KEY": OWN, "SACCADE_ALLOWED_HOSTS": "vision.example.com",
        "SACCADE_API_KEY": "key.secret-of-a-key", "NOTIFIER_MAX_STREAMS": "500",
    }  # fmt: skip
    file.write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    found = doctor(tmp_path, "--env-file", str(file), code=1)
    secrets = [finding["message"] for finding in found if finding["check"] == "secrets"]
    assert "placeholder" in secrets[0]
    assert "NATS_PASSWORD" in secrets[0]
    # What the file leaves out has the compose file's default.
    assert "NOTIFIER_SECRET_KEY" in secrets[1]
    assert "S3_SECRET_ACCESS_KEY" not in "".join(secrets)
    assert {"bucket", "server"} <= set(failures(found)), "nothing runs"
    told = [finding["message"] for finding in found if finding["check"] == "variable"]
    assert told == ["NOTIFIER_MAX_STREAMS is a setting that docker-compose.yml passes on to no service"]
    assert "secret-of-a-key" not in json.dumps(found)


@pytest.fixture(scope="module")
def modal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """Deploy one worker in the version of this checkout, and one in an older version."""
    with running(tmp_path_factory.mktemp("loopback")) as loopback:
        loopback.secrets |= {SECRET: dict(BUCKET)}
        home = tmp_path_factory.mktemp("home")
        done = Command(loopback, home)("deploy", "--worker", "scripted")
        assert done.returncode == 0, done.stdout + done.stderr
        older = [sys.executable, "-m", "modal", "deploy", "--tag", OLDER, "-m", "tests.workers.hasty.app"]
        variables = inherited_environment(("PATH", "LANG")) | {"HOME": str(home), "WORKER_CATALOG": "tests.workers"}
        subprocess.run(
            older, env=variables | loopback.environment, cwd=ROOT, check=True, capture_output=True, timeout=120
        )
        yield loopback
        assert loopback.unimplemented == set()


def test_apps_that_are_not_deployed_or_of_an_older_version_are_found(tmp_path: Path, modal: Loopback) -> None:
    words = ("--modal", "--port", str(free_port()))
    found = doctor(tmp_path, *words, code=1, WORKER_CATALOG="tests.workers", **modal.environment)
    told = [(one["outcome"], one["message"]) for one in found if one["check"].startswith("modal")]
    assert [outcome for outcome, _ in told] == ["ok", "FAIL", "FAIL"]
    missing, older = told[1][1], told[2][1]
    assert "lap_compare" in missing
    assert "scripted" not in missing + older
    assert older == f"of another version than this checkout ({deployed_version()}): hasty ({OLDER})"
    assert "saccade modal deploy --worker hasty." in "".join(one["fix"] for one in found)


def test_a_token_that_modal_does_not_accept_and_no_token_are_found(tmp_path: Path, modal: Loopback) -> None:
    # As on a dispatcher's machine: its settings say where workers run.
    given = modal.environment | {"DISPATCHER_EXECUTOR": "modal", "WORKER_CATALOG": "tests.workers"}
    for token in ({"MODAL_TOKEN_SECRET": OWN}, {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}):
        found = doctor(tmp_path, "--port", str(free_port()), code=1, **(given | token))
        told = next(one for one in found if one["check"] == "modal token")
        assert told["outcome"] == "FAIL"
        assert "modal token new" in told["fix"]


def test_a_disk_that_is_too_small_is_found(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("needs the right to mount")
    try:
        found = doctor(tmp_path, "--data", str(disk / "data"), "--port", str(free_port()), code=1)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True, timeout=30)
    assert failures(found) == ["disk"]
    assert "200 MB are needed" in next(one["message"] for one in found if one["check"] == "disk")
