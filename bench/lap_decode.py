"""Measures the lap worker against decoding alone: frames per second, CPU time per frame, peak memory.

    python bench/lap_decode.py [--minutes 1] [--clip A.mp4 --clip B.mp4]

Without clips two 1080p laps are rendered and repeated to the requested length, packet by packet. On a shared machine,
CPU time is more meaningful than wall time.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.needs import needs

needs("av", "cv2", "matplotlib")

import av
import cv2

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.lap_long import render_repeated_laps
from modal_workers.lap_compare.alignment.matching import align_clips
from modal_workers.lap_compare.clips.feature_extraction import (
    ClipFeatures,
    FlowEstimator,
    extract_pair,
    run_in_parallel,
)
from modal_workers.lap_compare.clips.optical_flow import DisFlow

SECONDS = 10.0
SIZE_PX = (1920, 1080)


def decode(path: Path) -> int:
    """Decode a clip and discard every frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2
        return sum(1 for _ in container.decode(stream))


def measured(name: str, frames: Callable[[], int]) -> tuple[float, float]:
    """Run a function and print its rate; return wall and CPU seconds per frame."""
    wall, processor = time.perf_counter(), time.process_time()
    count = frames()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate, each_ms = count / wall, 1e3 * processor / count
    print(f"{name:<34} {rate:>9.0f} frames/s {each_ms:>8.2f} ms of processor a frame {peak:>7.0f} MiB peak")
    return wall / count, processor / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--clip", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        given = arguments.clip
        if len(given) == 2:
            paths = (given[0], given[1])
        else:
            paths = render_repeated_laps(Path(scratch), SECONDS, arguments.minutes, SIZE_PX)
        alone = measured(
            "decoding both, nothing else",
            lambda: sum(run_in_parallel(lambda: decode(paths[0]), lambda: decode(paths[1]))),
        )
        kept: list[ClipFeatures] = []

        def read(flow_estimators: tuple[FlowEstimator | None, FlowEstimator | None]) -> int:
            pair, _ = extract_pair(paths, (paths[0].name, paths[1].name), flow_estimators, progress=lambda _share: None)
            kept[:] = pair
            return sum(features.clip.frame_count for features in pair)

        plain = measured("read stage, flow off", lambda: read((None, None)))
        with_flow = measured("read stage, flow dis", lambda: read((DisFlow(), DisFlow())))
        frames = sum(features.clip.frame_count for features in kept)

        def aligned() -> int:
            align_clips(kept[0], kept[1], correct_mount=True, progress=lambda _share: None)
            return frames

        align = measured("align stage, mount correction", aligned)
        shown_s = max(features.clip.duration_s for features in kept)
        shares = 100 * alone[0] / plain[0], 100 * alone[0] / with_flow[0]
        print(f"read stage reaches {shares[0]:.0f} % of the decoder's rate, with flow {shares[1]:.0f} %")
        print(f"read and align take {frames * (with_flow[0] + align[0]):.1f} s for two clips of {shown_s:.1f} s")


if __name__ == "__main__":
    main()
