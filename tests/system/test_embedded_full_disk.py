"""A full disk under ``saccade up``: everyone is told, and everything goes on when there is room again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from saccade_client import Client, ClientError

from contracts.limits import MIB
from tests.system.embedded import run, up, wait_until

ANSWER_S = 60.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 320 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True, timeout=30).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


def fill(disk: Path) -> None:
    """Fill the disk to the last byte with a file ``other``."""
    with disk.joinpath("other").open("ab", buffering=0) as out:
        for size in (MIB, 4096):
            with suppress(OSError):
                while out.write(bytes(size)):
                    pass


def health(http: httpx.Client) -> dict[str, Any]:
    """Return the health of the gateway; without checks while it is restarted."""
    answer = http.get("/health")
    return dict(answer.json()) if answer.status_code == 200 else {"status": "away", "checks": {}}


def failed(http: httpx.Client) -> set[str]:
    return {name for name, check in health(http)["checks"].items() if check["status"] == "failed"}


def test_a_full_disk_is_said_and_everything_goes_on_when_there_is_room(small_disk: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(os.urandom(5_000_000))
    data = small_disk / "data"
    with ExitStack() as stack:
        system = stack.enter_context(up(data, WORKER_CATALOG="tests.workers"))
        url = system.ready()["url"]
        http = stack.enter_context(httpx.Client(base_url=url, timeout=ANSWER_S))
        body = {"filename": "huge.mp4", "content_type": "video/mp4", "size_bytes": 10**9}
        huge = http.post("/v1/uploads", json=body)  # larger than the disk: refused before the first byte
        assert (huge.status_code, huge.json()["code"]) == (507, "storage_full")
        assert "the file needs" in huge.json()["detail"]

        # The disk becomes full while the bytes are sent: the bucket only says 500, and the server says why.
        client = stack.enter_context(Client(url))
        with pytest.raises(ClientError, match="The disk of the server is full") as refused:
            client.upload(clip, lambda *_: fill(small_disk))
        assert refused.value.code == "storage_full"
        fill(small_disk)  # also what the bucket deleted of the incomplete file
        wait_until(lambda: {"disk", "dispatcher"} <= failed(http), "the health report is red")
        assert (
            "The disk of the server is full" in run("submit", "scripted", str(clip), "--url", url, cwd=tmp_path).stderr
        )
        said = system.wait_for(lambda said: said["event"] == "note" and "is full" in said["message"])
        assert str(data) in said["message"]

        small_disk.joinpath("other").unlink()
        system.wait_for(lambda said: said["event"] == "note" and "nats-server could not write" in said["message"])
        wait_until(lambda: health(http)["status"] == "ok", "all is well again")
        with pytest.raises(ClientError) as refused:
            client.upload(clip)
        assert refused.value.code == "media_undecodable"  # the bytes have arrived
        script = "script=" + json.dumps(["stage first", "work 0.1"])
        watched = run("submit", "scripted", "--param", script, "--watch", "--url", url, cwd=tmp_path)
        assert watched.returncode == 0, watched.stderr
        assert system.stop() == 0
