"""Render two laps of one circuit by two drivers, and the true times between them.

``python -m simulators.laps.two_laps FOLDER`` writes ``lap_a.mp4``, ``lap_b.mp4`` and ``truth.json`` there and prints
its progress, one JSON object per line: ``{"lap": "a", "fraction": 0.5}``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import Circuit, make_circuit
from simulators.laps.driver import Driver, simulate_lap
from simulators.laps.lap_video import LapTruth, render_lap, true_time_b

_TRUTH_STEP_S: Final = 0.02
_PROGRESS_INTERVAL_S: Final = 0.1
_INITIAL_LENGTH_M: Final = 900.0
_MIN_LENGTH_M: Final = 600.0


def drivers(circuit: Circuit, seed: int) -> dict[str, Driver]:
    """Return two drivers of similar pace, each with mistakes at different places."""
    random = np.random.default_rng([seed, 71])
    where = circuit.length_m * (np.array([0.18, 0.5, 0.78]) + random.uniform(-0.06, 0.06, 3))
    slow_b = ((float(where[0]), 60.0, 0.80), (float(where[2]), 50.0, 0.86))
    slow_a = ((float(where[1]), 55.0, 0.84),)
    return {
        "a": Driver(seed=2 * seed + 1, slow_places=slow_a),
        "b": Driver(seed=2 * seed + 2, slow_places=slow_b),
    }


def cameras(seed: int) -> dict[str, CarCamera]:
    """Return two cameras that differ as two cars' do: mount, zoom, exposure, frame rate."""
    a = CarCamera(rate_hz=30.0, seed=2 * seed + 1)
    b = CarCamera(rate_hz=25.0, seed=2 * seed + 2, yaw_rad=0.02, pitch_rad=-0.06, field_of_view_rad=1.2, gain=0.92)
    return {"a": a, "b": b}


def circuit_of(seed: int, duration_s: float) -> tuple[Circuit, dict[str, Driver]]:
    """Generate a circuit that takes its first driver about ``duration_s``, and its drivers.

    Short circuits have corners that cannot be driven: below about half a minute the drivers drive only a part of one.
    """
    circuit = make_circuit(seed, _INITIAL_LENGTH_M)
    for _ in range(3):
        lap_s = float(simulate_lap(circuit, drivers(circuit, seed)["a"]).time_s[-1])
        circuit = make_circuit(seed, max(_MIN_LENGTH_M, circuit.length_m * duration_s / lap_s))
    pair = drivers(circuit, seed)
    reached_m = float(simulate_lap(circuit, pair["a"]).place_at(np.array([duration_s]))[0])
    if reached_m < 0.97 * circuit.length_m:
        pair = {lap: replace(driver, distance_m=reached_m) for lap, driver in pair.items()}
    return circuit, pair


def render_with_progress(lap: str, path: Path, seed: int, duration_s: float) -> LapTruth:
    """Render one of the two laps and print progress."""
    circuit, pair = circuit_of(seed, duration_s)
    printed_at = 0.0

    def print_progress(fraction: float) -> None:
        nonlocal printed_at
        if fraction >= 1.0 or time.monotonic() - printed_at > _PROGRESS_INTERVAL_S:
            printed_at = time.monotonic()
            sys.stdout.write(json.dumps({"lap": lap, "fraction": round(fraction, 4)}) + "\n")
            sys.stdout.flush()

    return render_lap(path, circuit, pair[lap], cameras(seed)[lap], progress=print_progress)


def main() -> None:
    """Render both laps in parallel and write the ground truth."""
    parser = argparse.ArgumentParser(description="Render two laps of one circuit and write their ground truth.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duration-s", type=float, default=30.0)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        rendering = {
            lap: pool.submit(render_with_progress, lap, folder / f"lap_{lap}.mp4", arguments.seed, arguments.duration_s)
            for lap in ("a", "b")
        }
        truth = {lap: future.result() for lap, future in rendering.items()}
    time_a = np.arange(0.0, truth["a"].duration_s, _TRUTH_STEP_S)
    time_b = true_time_b(truth["a"], truth["b"], time_a)
    seen = np.isfinite(time_b)
    written = {
        "seed": arguments.seed,
        "circuit_length_m": truth["a"].circuit_length_m,
        "time_a_s": np.round(time_a[seen], 5).tolist(),
        "time_b_s": np.round(time_b[seen], 5).tolist(),
    }
    (folder / "truth.json").write_text(json.dumps(written))


if __name__ == "__main__":
    main()
