"""Opens every hostile file as the gateway's probe and as a worker do, each in a process forked for it.

``python -m tests.harness.vision.hostile_media_runs FOLDER CANARY PORT`` writes one line of JSON for each file.
Loading the decoders takes a hundred times as long as opening a small file, therefore the processes are forked.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from contracts.errors import SaccadeError
from modal_workers.footage import picture_decoder
from modal_workers.footage.decoder_lockdown import limit_resources, lock_down
from modal_workers.footage.video_reader import VideoReader
from modal_workers.nerf.capture.inputs.photo import UnreadablePhoto, open_photo
from services.gateway.uploads import media_probe
from tests.harness.vision.hostile_media import corpus

MEMORY_BYTES: Final = 2048 << 20
CPU_S: Final = 10
FRAMES: Final = 40


class _Object(io.BytesIO):
    """A whole object in memory, where the probe has a reader of ranges."""

    failed = False


def _probe(data: bytes, _path: Path) -> dict[str, Any]:
    layers = lock_down(memory_bytes=MEMORY_BYTES, cpu_s=CPU_S)
    try:
        return {"layers": layers, "media": media_probe.probe(_Object(data))}  # type: ignore[arg-type]
    except media_probe.ProbeRefusal as refusal:
        return {"layers": layers, "code": refusal.args[0], "message": refusal.args[1]}
    except MemoryError:
        return {"layers": layers, "code": "media_undecodable"}


def _worker(data: bytes, path: Path) -> dict[str, Any]:
    """Open a file as the workers for video, photos and frames do, by its path with the user's suffix."""
    limit_resources(MEMORY_BYTES, CPU_S)
    sizes: list[Any] = []
    found: dict[str, Any] = {"sizes": sizes}
    try:
        for number, frame in enumerate(VideoReader(path, path.name).frames()):
            sizes.append(frame.colour().shape[1::-1])
            if number == FRAMES:
                break
    except SaccadeError as error:
        found["video"] = error.code
    try:
        photo = open_photo(data)
        sizes.append(photo.original_px)
    except UnreadablePhoto:
        found["photo"] = "unreadable"
    decoded = picture_decoder.decode_picture(data, 1, max_side_px=4096)
    found["frame"] = None if decoded is None else decoded.shape[1::-1]
    return found


def _forked(look: Callable[[bytes, Path], dict[str, Any]], data: bytes, path: Path) -> dict[str, Any]:
    """Return what a process of its own found, how it ended and what it took."""
    reading, writing = os.pipe()
    started_s = time.monotonic()
    if not (pid := os.fork()):
        os.close(reading)
        signal.alarm(30)
        try:
            told = look(data, path)
        except MemoryError:
            told = {"out_of_memory": True}
        except BaseException as error:  # noqa: BLE001 - the test shows it
            told = {"crash": f"{type(error).__name__}: {error}"}
        os.write(writing, json.dumps(told, default=str).encode()[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status, used = os.wait4(pid, 0)
    found = json.loads(told) if told else {"crash": "no answer"}
    figures = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": time.monotonic() - started_s,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    return found | figures | {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}


def main() -> None:
    """Make the files, open each twice, and write what came of it."""
    folder, canary, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    media_probe.import_decoders(archive=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, data in corpus(canary, port):
        path = folder / name
        path.write_bytes(data)
        print(json.dumps({"name": name, "probe": _forked(_probe, data, path), "worker": _forked(_worker, data, path)}))
        path.unlink()


if __name__ == "__main__":
    main()
