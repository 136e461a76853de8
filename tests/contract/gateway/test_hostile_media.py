"""Two hundred hostile files in the gateway's probe and in a worker: refused or handled, and nothing else is touched."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode
from modal_workers.footage.decoder_lockdown import LAYERS
from services.gateway.decoder_process import decoder_process, run_decoder
from services.gateway.uploads.media_probe_process import ProbeConversation
from tests.harness.servers.gateway import video
from tests.harness.vision.hostile_media import CANARY_PX, clip, corpus

pytestmark = pytest.mark.anyio
MIB = 1 << 20
#: What a file may take: memory beyond the decoders themselves (about 70 MiB), and processor time.
PEAK_BYTES, CPU_S = 512 * MIB, 4.0
_ALL_EVENTS = 0xFFF


@dataclass(frozen=True)
class Runs:
    """What came of each file, and what was done to what the files name."""

    probe: dict[str, dict[str, Any]]
    worker: dict[str, dict[str, Any]]
    canary_events: bytes
    connected: bool
    left: list[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder, outside = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("outside")
    canary = outside / "canary.mp4"
    canary.write_bytes(clip("mp4", size=CANARY_PX))
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(outside), _ALL_EVENTS) >= 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        command = [sys.executable, "-m", "tests.harness.vision.hostile_media_runs"]
        arguments = [str(folder), str(canary), str(server.getsockname()[1])]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        try:
            server.accept()[0].close()
            connected = True
        except BlockingIOError:
            connected = False
    try:
        events = os.read(watch, 65_536)
    except BlockingIOError:
        events = b""
    finally:
        os.close(watch)
    probe, worker = ({row["name"]: row[side] for row in rows} for side in ("probe", "worker"))
    return Runs(probe, worker, events, connected, [path.name for path in folder.iterdir()])


def test_the_corpus_is_the_same_each_time():
    first, second = (dict(corpus("/canary", 9)) for _ in range(2))
    assert len(first) == 200
    assert list(first) == list(second)
    # The ZIPs of the other suite have the time at which they are made.
    assert [name for name in first if first[name] != second[name] and not name.startswith("zip_")] == []


def test_the_probe_refuses_with_a_code_or_says_what_it_found(runs: Runs):
    codes = {code.value for code in ErrorCode}
    media = {"video", "image", "archive"}
    bad = {
        name: found
        for name, found in runs.probe.items()
        if found.get("code") not in codes and found.get("media", {}).get("media") not in media
    }
    assert bad == {}
    assert len(runs.probe) == 200


def test_a_worker_refuses_with_a_code_or_decodes(runs: Runs):
    codes = {code.value for code in ErrorCode}
    bad = {name: found for name, found in runs.worker.items() if found.get("crash")}
    assert bad == {}
    assert {found["video"] for found in runs.worker.values() if "video" in found} <= codes


def test_memory_and_processor_time_are_bounded(runs: Runs):
    """No process is killed by a signal either: none crashes, hangs or runs out of time."""
    sides = {"probe": runs.probe, "worker": runs.worker}
    bad = {
        (side, name): (found["peak_bytes"] // MIB, found["cpu_s"], found["signal"])
        for side, rows in sides.items()
        for name, found in rows.items()
        if found["peak_bytes"] > PEAK_BYTES or found["cpu_s"] > CPU_S or found["signal"]
    }
    assert bad == {}


def test_nothing_outside_is_opened(runs: Runs):
    shown = [found.get("sizes", []) for found in runs.worker.values()]
    assert [name for name, found in runs.worker.items() if list(CANARY_PX) in found.get("sizes", [])] == []
    assert any(shown)
    assert [name for name, found in runs.probe.items() if found.get("media", {}).get("width_px") == CANARY_PX[0]] == []
    assert runs.canary_events == b""
    assert not runs.connected
    assert runs.left == []


def test_the_probe_is_locked_down_as_far_as_the_kernel_can(runs: Runs):
    """Landlock and seccomp need no rights; namespaces are forbidden in many containers."""
    layers = {tuple(found["layers"]) for found in runs.probe.values()}
    assert len(layers) == 1
    (found,) = layers
    assert set(found) <= set(LAYERS)
    assert "seccomp" in found


def test_the_probe_and_the_worker_agree_on_a_playlist_behind_a_picture(runs: Runs):
    """The worker opened it as a playlist, because of the user's suffix, and decoded the canary."""
    behind = [name for name in runs.probe if name.startswith("hls_behind_picture")]
    assert behind
    for name in behind:
        assert runs.probe[name]["media"]["container"] == "mjpeg"
        assert runs.worker[name]["sizes"] == [[64, 48]] * 3 or runs.worker[name].get("video")


def test_a_locked_process_opens_nothing_starts_nothing_and_reaches_nothing(tmp_path: Path):
    script = """
import json, os, socket, sys
from modal_workers.footage.decoder_lockdown import lock_down
tries = {
    "read": lambda: open(sys.argv[1]), "write": lambda: open(sys.argv[1] + "x", "w"), "list": lambda: os.listdir("/"),
    "socket": socket.socket, "fork": os.fork, "execute": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0), "remove": lambda: os.remove(sys.argv[1]),
}
lock_down(memory_bytes=1 << 30, cpu_s=5)
done = []
for name, act in tries.items():
    try:
        act()
        done.append(name)
    except OSError:
        pass
os.write(1, json.dumps(done).encode())
"""
    target = tmp_path / "secret"
    target.write_text("canary")
    command = [sys.executable, "-c", script, str(target)]
    assert subprocess.run(command, capture_output=True, check=True, timeout=600).stdout == b"[]"
    assert target.read_text() == "canary"


def test_a_locked_process_changes_and_signals_itself_only():
    """The other process is of the same user, as the gateway and its other decoders are."""
    script = """
import ctypes, json, os, platform, resource, signal, time
from modal_workers.footage.decoder_lockdown import lock_down
if not (other := os.fork()):
    os.closerange(0, 3)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    time.sleep(60)
time.sleep(0.5)
library, tgkill = ctypes.CDLL(None, use_errno=True), {"x86_64": 234, "aarch64": 131}.get(platform.machine())
def signal_it(process):
    if tgkill and library.syscall(tgkill, process, process, 0):
        raise OSError(ctypes.get_errno(), "refused")
tries = {
    "read other limits": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE),
    "set other limits": lambda: resource.prlimit(other, resource.RLIMIT_CPU, (5, 5)),
    "signal other": lambda: signal_it(other),
    "read own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "set own limits": lambda: resource.setrlimit(resource.RLIMIT_CPU, (4, 4)),
    "signal itself": lambda: (signal_it(os.getpid()), signal.raise_signal(0)),
}
layers = lock_down(memory_bytes=1 << 30, cpu_s=5)
done = []
for name, act in tries.items():
    try:
        act()
        done.append(name)
    except OSError:
        pass
os.write(1, json.dumps([layers, done, other]).encode())
os.abort()
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, timeout=600)
    layers, done, other = json.loads(ran.stdout)
    os.kill(other, signal.SIGKILL)
    if "seccomp" in layers:
        assert done == ["read own limits", "set own limits", "signal itself"]
    assert ran.returncode == -signal.SIGABRT


async def test_the_process_that_the_gateway_starts_is_locked_down(runs: Runs):
    """The runs above lock themselves down in the same way, but are processes of the test."""
    body = video()

    async def read(start: int, length: int) -> bytes:
        return body[start : start + length]

    request = {"size_bytes": len(body), "memory_bytes": 1 << 30, "cpu_s": 60}
    async with asyncio.timeout(60), decoder_process("services.gateway.uploads.media_probe") as process:
        said = await ProbeConversation(read, len(body)).converse(process, request)
    assert said["media"]["container"] == "mov"
    assert said["lockdown"] == next(iter(runs.probe.values()))["layers"]


async def test_the_decoder_finds_its_modules_where_the_parent_does(tmp_path: Path):
    """In an image the code lies in a folder that only the search path of the service names."""
    script = "import os, sys; sys.stdout.write(sys.stdin.read() + str(dict(os.environ)))"
    (tmp_path / "of_the_image.py").write_text(script)
    sys.path.append(str(tmp_path))
    try:
        output, exit_code = await run_decoder("of_the_image", b"given ", timeout_s=60)
    finally:
        sys.path.remove(str(tmp_path))
    assert exit_code == 0
    assert output.startswith(b"given ")
    assert b"PATH" not in output
