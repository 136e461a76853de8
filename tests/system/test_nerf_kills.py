"""Product photos whose pipeline is killed in its middle: every frame once, and every second paid for once.

``make test`` plays it with few frames and two kills, a soak of twelve runs and more with 1,440 frames and five.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import random
import signal
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from saccade_client import Client

from cli.embedded.processes import children_of
from tests.harness.servers.embedded import free_port
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.system.embedded import SystemProcess

NEEDED = ("torch", "pycolmap", "av", "PIL")
VICTIMS = ("worker", "dispatcher", "machine", "worker", "machine")
PATIENCE_S = 1500.0
#: Killed when the pipeline has come so far: once in training, else where frames are drawn.
KILLED_IN = ("training", "rendering", "rendering", "rendering", "rendering")


class Machine:
    """The embedded system on one folder, which can lose a process or all of them, and be started again."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.up = self._start()

    def _start(self) -> SystemProcess:
        up = SystemProcess(self.data, "--port", str(self.port))
        up.ready()
        return up

    def kill(self, victim: str) -> bool:
        """End it without a word; tell whether there was one."""
        match victim:
            case "machine":
                os.killpg(self.up.process.pid, signal.SIGKILL)
                self.up.close()
                self.up = self._start()
                return True
            case "worker":
                pids = self._workers()
            case _:
                pids = [one.pid for one in children_of(self.data) if victim in " ".join(_words(one))]
        return sum(_end(pid) for pid in pids) > 0

    def _workers(self) -> list[int]:
        found = []
        for record in self.data.glob("dispatcher/runs/*/worker.json"):
            with suppress(OSError, ValueError, KeyError):
                found.append(int(json.loads(record.read_text())["pid"]))
        return found

    def parts(self, job_id: str) -> dict[str, int]:
        """Return the parts of batches that are stored now, each with the time at which it was written."""
        stored = {}
        # Only where they lie: elsewhere folders come and go while they are looked through.
        for path in self.data.glob(f"bucket/*/scratch/{job_id}/checkpoints/batch_*_part_*.zip"):
            with suppress(FileNotFoundError):
                stored[path.name] = path.stat().st_mtime_ns
        return stored


def _end(process_id: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
        return True
    return False


def _words(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()[:4]
    return []


@pytest.fixture
def photos(tmp_path: Path, seed: int) -> Path:
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    from simulators.toy.photos import take_photos
    from simulators.toy.room_scene import BRIGHT

    # The toy is one that is known to be placed: this is about what is killed, and when.
    take_photos(tmp_path / "photos", seed=0, photos=34, bounced=BRIGHT, masks=True)
    # One upload: the gateway opens each file in a process of its own. The demo's test sends them one by one.
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted([*tmp_path.glob("photos/*.jpg"), *tmp_path.glob("photos/masks/*.png")]):
            archive.write(path, path.relative_to(tmp_path))
    return tmp_path / "photos.zip"


def wait_for(url: str, job_id: str, stages: set[str]) -> dict[str, Any]:
    """Wait until a job is at work on one of these stages, or has ended; the gateway may be down meanwhile."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{url}/v1/jobs/{job_id}", timeout=10, verify=NO_CERTIFICATES)
            if answer.status_code == 200:
                job: dict[str, Any] = answer.json()
                running = {one["name"] for one in job["stages"] if one["state"] == "running"}
                if job["state"] in ("succeeded", "failed", "cancelled") or running & stages:
                    return job
        time.sleep(0.1)
    raise AssertionError(f"{job_id} did not come to {stages}")


def wait_for_part(machine: Machine, job_id: str, before: dict[str, int]) -> None:
    """Wait until a part is stored that was not before: from then on there is something to draw twice."""
    end = time.monotonic() + 60
    while time.monotonic() < end and not machine.parts(job_id).keys() - before.keys():
        time.sleep(0.05)


@pytest.mark.soak
@pytest.mark.timeout(PATIENCE_S + 300)
def test_frames_are_drawn_once_whatever_is_killed(tmp_path: Path, photos: Path, seed: int, soak_runs: int) -> None:
    choose = random.Random(seed)
    whole = soak_runs > 12
    frames, kills = (1440, 5) if whole else (288, 2)
    told: list[str] = []
    machine = Machine(tmp_path / "data")
    try:
        with Client(machine.url, timeout_s=120.0) as client:
            inputs = {"archive": [client.upload(photos).id]}
            params = {"preset": "draft", "iterations": 150, "frames": frames, "frame_size_px": 128}
            job_id = client.submit("nerf", inputs, params).id
        before: dict[str, int] = {}
        for number in range(kills):
            # With two of them only, one is a worker's while it draws and the other the whole machine's.
            victim = VICTIMS[number] if whole else ("worker", "machine")[number]
            stage = KILLED_IN[number] if whole else "rendering"
            assert wait_for(machine.url, job_id, {stage})["state"] == "running", f"--seed {seed}: {told}"
            if stage == "rendering":
                wait_for_part(machine, job_id, before)
            time.sleep(choose.uniform(0.0, 1.5))
            before |= machine.parts(job_id)
            told.append(f"{victim} in {stage}: {machine.kill(victim)}, {len(before)} parts stored")
        context = f"--seed {seed}: {told}"
        job = wait_for(machine.url, job_id, set())
        print(context, job["state"])
        assert job["state"] == "succeeded", f"{context}: {job['error']}"
        after = machine.parts(job_id)
        assert before, context
        assert {name: after.get(name) for name in before} == before, f"{context}: a stored part was written again"
        parts = _all_parts(machine.url, job_id)
        check_bill(job, parts, context)
        check_frames(machine.url, job_id, parts, frames, context)
    finally:
        machine.up.close()


def _all_parts(url: str, job_id: str) -> list[dict[str, Any]]:
    with httpx.Client(base_url=url, timeout=30, verify=NO_CERTIFICATES) as http:
        listed = http.get("/v1/jobs", params={"pipeline": job_id, "limit": 100}).json()["data"]
        return [http.get(f"/v1/jobs/{one['id']}").json() for one in listed]


def check_bill(job: dict[str, Any], parts: list[dict[str, Any]], context: str) -> None:
    """The whole costs what its parts do; each of these has ended once, well."""
    assert {one["state"] for one in parts} == {"succeeded"}, context
    assert job["cost"]["actual_usd"] == pytest.approx(sum(one["cost"]["actual_usd"] for one in parts), abs=1e-5), (
        context
    )
    assert sum(one["attempt"] for one in parts) > len(parts), f"{context}: no attempt was lost"


def check_frames(url: str, job_id: str, parts: list[dict[str, Any]], frames: int, context: str) -> None:
    """Every frame is there, is what its list says, and was either drawn by the last run or taken over."""
    reports = [one["result"] for one in parts if "-rendering-" in one["id"]]
    assert sum(one["frames_rendered"] + one["frames_taken_over"] for one in reports) == frames, context
    seen = set()
    for report in reports:
        body = _fetched(url, job_id, report["artifact"])
        assert hashlib.sha256(body).hexdigest() == report["zip_sha256"], context
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for name in archive.namelist():
                seen.add(name)
                with Image.open(io.BytesIO(archive.read(name))) as picture:
                    assert (picture.mode, picture.size) == ("RGBA", (128, 128)), (context, name)
                    alpha = np.asarray(picture)[..., 3]
                assert alpha.min() == 0, (context, name)
                assert alpha.max() > 250, (context, name)
    assert seen == {f"frame_{number:04d}.png" for number in range(frames)}, context


def _fetched(url: str, job_id: str, name: str) -> bytes:
    answer = httpx.get(
        f"{url}/v1/jobs/{job_id}/artifacts/{name}", follow_redirects=True, timeout=60, verify=NO_CERTIFICATES
    )
    assert answer.status_code == 200, answer.text
    return answer.content
