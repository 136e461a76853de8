"""Rendering of a lap to an MP4 with true timestamps, and its ground truth."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import Circuit
from simulators.laps.driver import DrivenLap, Driver, simulate_lap
from simulators.laps.frame_renderer import CircuitWorld, FrameRenderer

Floats = NDArray[np.float64]

TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class LapTruth:
    """True places of a car. Shapes: frame_time_s, frame_place_m [F]; ``drive`` is finely sampled."""

    circuit_length_m: float
    frame_time_s: Floats  # from the first frame
    frame_place_m: Floats  # unwrapped
    drive: DrivenLap

    @property
    def duration_s(self) -> float:
        """Time of the last frame."""
        return float(self.frame_time_s[-1])


def render_lap(
    path: Path,
    circuit: Circuit,
    driver: Driver,
    camera: CarCamera,
    *,
    world: CircuitWorld | None = None,
    progress: Callable[[float], None] | None = None,
    duration_s: float | None = None,
) -> LapTruth:
    """Render a lap to ``path`` (H.264, yuv420p) and return its ground truth.

    ``world`` avoids painting the circuit again for a second camera; ``duration_s`` ends the video early.
    """
    truth = lap_truth(circuit, driver, camera, duration_s=duration_s)
    driven, times, place = truth.drive, truth.frame_time_s, truth.frame_place_m
    offset = np.interp(place, driven.place_m, driven.offset_m)
    acceleration = np.interp(place, driven.place_m, driven.acceleration_mps2)
    renderer = FrameRenderer(world or CircuitWorld(circuit), camera)

    def draw(index: int) -> NDArray[np.uint8]:
        return renderer.draw(float(place[index]), float(offset[index]), float(acceleration[index]), index)

    write_video(path, camera, times, draw, progress)
    return truth


def write_video(
    path: Path,
    camera: CarCamera,
    times_s: Floats,
    draw: Callable[[int], NDArray[np.uint8]],
    progress: Callable[[float], None] | None = None,
) -> None:
    """Encode the frames [H, W, 3] BGR that ``draw`` returns, shown at times [F], as the camera records: H.264."""
    turned = camera.rotation_deg // 90
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(camera.rate_hz).limit_denominator(1001))
        size = (camera.width_px, camera.height_px)
        stream.width, stream.height = size if turned % 2 == 0 else size[::-1]
        stream.pix_fmt = "yuv420p" if camera.width_px % 2 == camera.height_px % 2 == 0 else "yuv444p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "superfast", "crf": str(camera.quality_crf), "g": "60"}
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(draw(index), turned)), format="bgr24")
            frame.pts = round((time_s + camera.first_timestamp_s) / TIME_BASE)
            frame.time_base = TIME_BASE
            container.mux(stream.encode(frame))
            if progress is not None:
                progress((index + 1) / len(times_s))
        container.mux(stream.encode(None))
    if turned:
        write_rotation(path, camera.rotation_deg)


def lap_truth(circuit: Circuit, driver: Driver, camera: CarCamera, *, duration_s: float | None = None) -> LapTruth:
    """Return the ground truth of a lap without rendering it; the same as ``render_lap`` returns."""
    driven = simulate_lap(circuit, driver)
    times = frame_times(camera, min(float(driven.time_s[-1]), duration_s or np.inf))
    return LapTruth(circuit.length_m, times, driven.place_at(times), driven)


def frame_times(camera: CarCamera, end_s: float) -> Floats:
    """Return the times of frames: regular, or jittered and with missing frames, as phones record."""
    times = np.arange(0.0, end_s, 1 / camera.rate_hz)
    if camera.rate_jitter or camera.dropped:
        random = np.random.default_rng([camera.seed, 61])
        times = times + random.uniform(0, camera.rate_jitter, len(times)) / camera.rate_hz
        times = times[random.uniform(size=len(times)) >= camera.dropped]
        times = np.sort(times)
    return np.asarray(times - times[0])


def true_time_b(truth_a: LapTruth, truth_b: LapTruth, time_a_s: Floats) -> Floats:
    """Return when B was at the place of A at times [N]; NaN where B never was. Both drive the same circuit."""
    place = truth_a.drive.place_at(np.asarray(time_a_s, np.float64))
    seen_m, seen_s = truth_b.drive.place_m, truth_b.drive.time_s
    last = float(truth_b.drive.place_at(np.array([truth_b.duration_s]))[0])
    # a lap that overlaps itself passes the start line twice: use the lap number with the largest overlap
    turned = [place + turns * truth_a.circuit_length_m for turns in (0, -1, 1)]
    inside = [(where >= seen_m[0]) & (where <= last) for where in turned]
    best = max(range(3), key=lambda number: int(inside[number].sum()))
    return np.where(inside[best], np.interp(turned[best], seen_m, seen_s), np.nan)


def write_rotation(path: Path, degrees: int) -> None:
    """Write a display rotation into the track header of an MP4: the stored image is turned clockwise by ``degrees``.

    Source: ISO/IEC 14496-12, 8.3.2 (tkhd) and 6.2.2 (matrix, 16.16 and 2.30 fixed point).
    """
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd")
    version = data[at + 4]
    matrix_at = at + 4 + 4 + (32 if version else 20) + 16
    cosine, sine = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees % 360]
    unit = 1 << 16
    matrix = (cosine * unit, sine * unit, 0, -sine * unit, cosine * unit, 0, 0, 0, 1 << 30)
    data[matrix_at : matrix_at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(data))
