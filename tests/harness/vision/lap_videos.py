"""Videos for the tests of lap_compare: small generated laps, and clips of given frames."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures, extract_pair
from simulators.laps.degradation import Degradation, LapPairSetup, lap_pair_setup
from simulators.laps.frame_renderer import CircuitWorld
from simulators.laps.lap_video import LapTruth, render_lap

SIZE = (256, 144)
LENGTH_M = 420.0
DURATION_S = 8.0


@dataclass(frozen=True)
class LapPairVideos:
    """Two videos of one circuit and their ground truth."""

    path_a: Path
    path_b: Path
    truth_a: LapTruth
    truth_b: LapTruth


def render_lap_a(folder: Path, seed: int, world: CircuitWorld) -> tuple[Path, LapTruth]:
    """Render the reference lap of a seed, which is the same for every degradation."""
    plan, path = small_setting(seed, "clean"), folder / f"{seed}_a.mp4"
    return path, render_lap(path, world.circuit, plan.driver_a, plan.camera_a, world=world, duration_s=DURATION_S)


def render_lap_b(
    path: Path, plan: LapPairSetup, world: CircuitWorld, duration_s: float = DURATION_S + 1
) -> tuple[Path, LapTruth]:
    """Render the other lap of a setup, by default for a second longer."""
    return path, render_lap(path, world.circuit, plan.driver_b, plan.camera_b, world=world, duration_s=duration_s)


def small_setting(seed: int, kind: Degradation) -> LapPairSetup:
    """Return the setup of a degradation with small cameras."""
    plan = lap_pair_setup(kind, seed, LENGTH_M, SIZE)
    return replace(plan, camera_a=replace(plan.camera_a, rate_hz=20.0), camera_b=replace(plan.camera_b, rate_hz=20.0))


def features_of(path_a: Path, path_b: Path) -> tuple[ClipFeatures, ClipFeatures]:
    """Extract the features of two clips as the job does, without progress or flow."""
    scratch = Path(tempfile.mkdtemp(dir=path_b.parent))
    names = (path_a.name, path_b.name)
    return extract_pair((path_a, path_b), names, (None, None), progress=ignore_progress, scratch=scratch)[0]


def ignore_progress(_share: float) -> None:
    """Ignore progress."""


def write_clip(path: Path, pictures: Sequence[NDArray[np.uint8]], times_s: Sequence[float], **options: str) -> Path:
    """Write frames [H, W, 3] as H.264 at given times, the index first so that a truncated file still opens."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width = pictures[0].shape[:2]
        even = stream.height % 2 == stream.width % 2 == 0
        stream.pix_fmt = "yuv420p" if even else "yuv444p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        stream.options = {"preset": "ultrafast", "g": "30", **options}
        for picture, time_s in zip(pictures, times_s, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="bgr24")
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def moving_pictures(count: int, width: int = 160, height: int = 90, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Return frames of a texture that slides sideways."""
    texture = np.random.default_rng(seed).integers(0, 255, (height // 6 + 1, width, 3)).astype(np.uint8)
    wide = np.kron(texture, np.ones((6, 6, 1), np.uint8))[:height]
    return [np.ascontiguousarray(wide[:, 4 * index % (4 * width) :][:, :width]) for index in range(count)]
