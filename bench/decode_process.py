"""Cost of decoding in a process of its own that passes frames through shared memory (docs/adr/0038).

    python -m bench.decode_process

One 1080p clip, decoded by two threads and shrunk as the lap worker does: in this process, in a job's locked thread, in
a forked process with one copy of each frame into shared memory, and with a second one out of it, which a consumer needs
that keeps frames. They take turns; on a shared machine processor time is more meaningful than wall time.
"""

from __future__ import annotations

from bench.needs import needs

needs("av", "cv2")

import mmap
import os
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_track import open_video
from modal_workers.runtime.job_lockdown import run_locked

_SIZE_PX: Final = (1920, 1080)
_FRAMES: Final = 240
_ROUNDS: Final = 7
_SLOTS: Final = 6
_SLOT_BYTES: Final = _SIZE_PX[0] * _SIZE_PX[1] * 3 // 2 + (1 << 16)
_END: Final = 255


def render(path: Path) -> None:
    """Write a clip with movement and noise."""
    width, height = _SIZE_PX
    chance = np.random.default_rng(0)
    small = chance.integers(0, 256, (height // 8 + 64, width // 8 + 64, 3), dtype=np.uint8)
    scene = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream("libx264", rate=Fraction(30))
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        track.options = {"crf": "23", "preset": "veryfast"}
        for number in range(_FRAMES):
            shown = scene[number : number + height, 2 * number % 512 : 2 * number % 512 + width].astype(np.int16)
            noisy = np.clip(shown + chance.integers(-6, 6, shown.shape, dtype=np.int16), 0, 255).astype(np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(track.encode())


def decoded(path: Path) -> Iterator[Any]:
    """Yield the frames of a clip."""
    with open_video(path, path.name) as (container, track):
        yield from container.decode(track)


def shrink(luma: NDArray[np.uint8]) -> None:
    """Do with a frame what the lap worker does."""
    cv2.resize(luma, (320, 180), interpolation=cv2.INTER_AREA)


def in_this_process(path: Path) -> int:
    """Decode and shrink; return the number of frames."""
    count = 0
    for frame in decoded(path):
        plane = frame.planes[0]
        shrink(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width])
        count += 1
    return count


def in_a_locked_thread(path: Path) -> int:
    """Decode as a job does."""
    return run_locked(partial(in_this_process, path), readable=(path.parent,), writable=(), files=True)


def in_another_process(path: Path, *, keep: bool) -> int:
    """Decode in a forked process, which puts frames into slots of shared memory; ``keep`` copies them out."""
    memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
    shared: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        _send_frames(path, shared, there)
        os._exit(0)
    count, (width, height) = 0, _SIZE_PX
    while True:
        for slot in here.recv(64):
            if slot == _END:
                os.waitpid(child, 0)
                here.close()
                there.close()
                return count
            begin = slot * _SLOT_BYTES
            frame = shared[begin : begin + width * height * 3 // 2]
            shrink((frame.copy() if keep else frame)[: width * height].reshape(height, width))
            count += 1
            here.send(bytes([slot]))


def _send_frames(path: Path, shared: NDArray[np.uint8], free: socket.socket) -> None:
    slots = list(range(_SLOTS))
    for frame in decoded(path):
        if not slots:
            slots.extend(free.recv(64))
        slot = slots.pop()
        at = slot * _SLOT_BYTES
        for plane in frame.planes:
            found = np.frombuffer(plane, np.uint8)
            shared[at : at + found.size] = found
            at += found.size
        free.send(bytes([slot]))
    free.send(bytes([_END]))


def processor_s() -> float:
    """Return the processor time of this process and of those that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    """Print the processor time of a frame, the median of the rounds."""
    ways: dict[str, Callable[[Path], int]] = {
        "in the worker": in_this_process,
        "in a locked thread of it": in_a_locked_thread,
        "another process, one copy": partial(in_another_process, keep=False),
        "another process, two copies": partial(in_another_process, keep=True),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        render(path)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                began = processor_s()
                assert way(path) == _FRAMES
                times[name].append(1000 * (processor_s() - began) / _FRAMES)
    print(f"load {os.getloadavg()[0]:.1f}, {time.strftime('%F')}")
    for name, found in times.items():
        print(
            f"{name:<30} {statistics.median(found):.2f} ms of processor a frame ({min(found):.2f} to {max(found):.2f})"
        )


if __name__ == "__main__":
    main()
