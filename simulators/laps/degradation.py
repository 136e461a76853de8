"""Pairs of cameras and drivers with differences from small to large, for tests and measurements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from simulators.laps.car_camera import CarCamera
from simulators.laps.driver import Driver

Degradation = Literal["clean", "mild", "strong", "perspective", "remounted"]

#: Those that a mixed set goes through in turn. ``remounted`` has measurements of its own (bench/lap_mounts.py).
DEGRADATIONS: Final[tuple[Degradation, ...]] = ("clean", "mild", "strong", "perspective")


@dataclass(frozen=True)
class LapPairSetup:
    """Driver and camera of both laps."""

    driver_a: Driver
    driver_b: Driver
    camera_a: CarCamera
    camera_b: CarCamera


def lap_pair_setup(
    kind: Degradation, seed: int, circuit_length_m: float, size: tuple[int, int] = (480, 270)
) -> LapPairSetup:
    """Generate two drivers and two cameras.

    Differences of B from A: clean: driver, line and start; mild: also mount, zoom by 4 %, exposure, noise, compression;
    strong: also another car, zoom by 10 %, roll, 25 Hz with jitter and missing frames; perspective: also a keystone and
    a barrel lens, which no mount correction models, and a wiper; remounted: clean, with a camera that was taken off and
    mounted again: turned in all three axes, zoomed, higher or lower, to one side, and with another exposure.
    """
    random = np.random.default_rng([seed, 83])

    def within(limit: float) -> float:
        return float(random.uniform(-limit, limit))

    a = CarCamera(width_px=size[0], height_px=size[1], seed=2 * seed, occluder="bonnet")
    b = replace(a, seed=2 * seed + 1)
    tilt = a.pitch_rad
    wide = a.field_of_view_rad
    if kind == "mild":
        b = replace(b, field_of_view_rad=wide * 1.04, yaw_rad=within(0.02), pitch_rad=tilt + within(0.015))
        b = replace(b, roll_rad=within(0.01), height_m=1.35, gamma=1.2, gain=1.1, noise=5, quality_crf=28)
    elif kind == "strong":
        b = replace(b, field_of_view_rad=wide * 1.1, yaw_rad=within(0.05), pitch_rad=tilt + within(0.04))
        b = replace(b, roll_rad=within(0.035), height_m=1.0, sideways_m=0.4, occluder="dashboard")
        b = replace(b, gamma=1.4, gain=0.9, noise=7, quality_crf=32, rate_hz=25.0, rate_jitter=0.3, dropped=0.05)
    elif kind == "perspective":
        b = replace(b, field_of_view_rad=1.3, yaw_rad=within(0.04), pitch_rad=tilt + within(0.03), height_m=1.1)
        b = replace(b, keystone=within(0.18), distortion=-0.12, occluder="wiper")
        b = replace(b, gamma=0.8, gain=1.1, noise=5, quality_crf=28)
    elif kind == "remounted":
        b = _remounted(a, seed)
    mistake = (float(random.uniform(0.15, 0.85)) * circuit_length_m, 60.0, 0.75)
    return LapPairSetup(
        driver_a=Driver(seed=2 * seed),
        driver_b=Driver(
            seed=2 * seed + 1,
            start_m=within(20.0),
            grip_mps2=13.0 * float(random.uniform(0.8, 1.2)),
            slow_places=(mistake,),
        ),
        camera_a=a,
        camera_b=b,
    )


def _remounted(camera: CarCamera, seed: int) -> CarCamera:
    random = np.random.default_rng([seed, 89])

    def within(limit: float) -> float:
        return float(random.uniform(-limit, limit))

    return replace(
        camera,
        seed=2 * seed + 1,
        yaw_rad=within(0.06),
        pitch_rad=camera.pitch_rad + within(0.045),
        roll_rad=within(0.04),
        field_of_view_rad=camera.field_of_view_rad * float(random.uniform(0.87, 1.15)),
        height_m=camera.height_m + within(0.25),
        sideways_m=within(0.4),
        gamma=float(random.uniform(0.8, 1.3)),
        gain=float(random.uniform(0.9, 1.1)),
        noise=5,
        quality_crf=28,
    )
