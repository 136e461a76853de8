"""Measures the whole lap comparison on long 1080p clips: rate of each stage, wall time against footage, peak memory.

    python bench/lap_long.py [--minutes 10] [--seconds 20] [--height 540] [--clip A --clip B]

Two laps are rendered for ``--seconds`` and their packets repeated to ``--minutes``: real data to decode at no cost, and
the most ambiguous road to align, since every place repeats. The job runs in its own process, so that the peak is the
job's alone; it must stay under 1.5 GB, and take less time than the footage lasts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.needs import needs

needs("av", "cv2", "matplotlib")

import av

sys.path.insert(0, str(Path(__file__).parents[1]))

from contracts.errors import SaccadeError
from contracts.manifest import Artifact
from modal_workers.lap_compare.job import run
from modal_workers.lap_compare.spec import LapCompareParams
from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import make_circuit
from simulators.laps.driver import Driver
from simulators.laps.frame_renderer import CircuitWorld
from simulators.laps.lap_video import render_lap

MAX_BYTES = 1_500_000_000


@dataclass
class BenchContext:
    """A job context that stores nothing and times the stages."""

    paths: Mapping[str, Path]
    scratch: Path
    job_id: str = "job_0198c0de-0000-7000-8000-000000000000"
    device: str = "cpu"
    stages: list[tuple[str, float, float, int]] = field(default_factory=list)
    saved: dict[str, int] = field(default_factory=dict)

    def input(self, name: str, index: int = 0) -> Path:  # noqa: ARG002
        """Return a clip."""
        return self.paths[name]

    def input_name(self, name: str, index: int = 0) -> str:  # noqa: ARG002
        """Return its name."""
        return self.paths[name].name

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        wall, processor = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            took = time.perf_counter() - wall, time.process_time() - processor
            self.stages.append((name, *took, peak_bytes()))

    def progress(self, fraction: float, message: str = "") -> None:
        """Ignore progress."""

    def check(self) -> None:
        """Never stop the job."""

    def save(
        self,
        path: Path,
        name: str,
        media_type: str,
        *,
        title: str = "",
        units: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Artifact:
        """Record only the size."""
        size = path.stat().st_size
        self.saved[name] = size
        return Artifact(name=name, key=name, bytes=size, sha256="0" * 64, media_type=media_type, title=title)

    def checkpoint(self, name: str) -> Path | None:  # noqa: ARG002
        """Return no checkpoint."""
        return None

    def keep(self, path: Path, name: str) -> None:
        """Store no checkpoint."""


def peak_bytes() -> int:
    """Return the peak memory of this process.

    Not getrusage: its peak survives exec, so a child would start with that of the process that rendered the clips.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def render_repeated_laps(folder: Path, seconds: float, minutes: float, size: tuple[int, int]) -> tuple[Path, Path]:
    """Render two laps of ``seconds`` and repeat each to ``minutes``."""
    circuit = make_circuit(1, 600.0)
    world, paths = CircuitWorld(circuit), []
    for number in (1, 2):
        camera = CarCamera(width_px=size[0], height_px=size[1], seed=number)
        short, path = folder / f"short_{number}.mp4", folder / f"long_{number}.mp4"
        render_lap(short, circuit, Driver(seed=number), camera, world=world, duration_s=seconds)
        repeat(short, path, seconds, max(1, round(minutes * 60 / seconds)))
        paths.append(path)
    return paths[0], paths[1]


def repeat(source: Path, path: Path, seconds: float, times: int) -> None:
    """Write a clip repeated many times into one file without re-encoding."""
    with av.open(str(path), "w") as out, av.open(str(source)) as probe:
        target = out.add_stream_from_template(probe.streams.video[0])
        for number in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                shift = round(number * seconds / (stream.time_base or 1))
                for packet in container.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                    out.mux(packet)


def work(paths: tuple[Path, Path], height_px: int, folder: Path) -> None:
    """Run the job and print its measurements."""
    before = peak_bytes()
    context = BenchContext({"reference": paths[0], "other": paths[1]}, folder)
    started, result, refused = time.perf_counter(), None, ""
    try:
        result = run(LapCompareParams(overlay_height_px=height_px), context)
    except SaccadeError as error:
        refused = f"{error.code}: {error.message}"
    wall_s = time.perf_counter() - started
    facts = [frames_of(path) for path in paths]
    frames, footage_s = sum(count for count, _ in facts), max(length for _, length in facts)
    print(f"two clips of {footage_s:.0f} s, {frames} frames in all; the imports alone take {before / 1e6:.0f} MB")
    print(f"{'stage':<10} {'wall s':>8} {'processor s':>12} {'frames/s':>9} {'peak MB so far':>15}")
    for name, stage_s, processor_s, peak in context.stages:
        print(f"{name:<10} {stage_s:>8.1f} {processor_s:>12.1f} {frames / stage_s:>9.0f} {peak / 1e6:>15.0f}")
    print(f"whole job: {wall_s:.1f} s, {footage_s / wall_s:.2f} times real time, peak {peak_bytes() / 1e6:.0f} MB")
    if result is None:
        print(f"refused: {refused}")
    else:
        print(f"delta {result.delta_s:+.2f} s +- {result.delta_error_s:.2f} s, overlap {result.overlap:.0%}")
        print("  ".join(f"{name} {size / 1e6:.1f} MB" for name, size in context.saved.items()))
    light, fast = peak_bytes() < MAX_BYTES, wall_s < footage_s
    print(f"memory {'holds' if light else 'DOES NOT HOLD'}, speed {'holds' if fast else 'DOES NOT HOLD'}")
    sys.exit(not light or result is None)  # speed is only printed: it depends on the load of the machine


def frames_of(path: Path) -> tuple[int, float]:
    """Return a clip's number of frames and length in seconds, from its container."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.frames, float((stream.duration or 0) * (stream.time_base or 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the stretch that is repeated")
    parser.add_argument("--height", type=int, default=540, help="height of each picture of the overlay")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--clip", type=Path, action="append", default=[], help="give twice: clips of your own")
    parser.add_argument("--keep", type=Path, help="copy the report and the clips into this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, given = Path(scratch), arguments.clip
        paths = (
            (given[0], given[1])
            if len(given) == 2
            else render_repeated_laps(folder, arguments.seconds, arguments.minutes, tuple(arguments.size))
        )
        # spawned, not forked, so that the memory is the job's own
        process = multiprocessing.get_context("spawn").Process(target=work, args=(paths, arguments.height, folder))
        process.start()
        process.join()
        if arguments.keep:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            for path in (*paths, folder / "report.html"):
                if path.exists():
                    shutil.copy(path, arguments.keep)
    return process.exitcode or 0


if __name__ == "__main__":
    sys.exit(main())
