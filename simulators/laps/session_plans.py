"""Sessions of each kind with seeded circuits, drivers and cameras, for tests and measurements of lap detection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import Circuit, make_circuit
from simulators.laps.driver import Driver
from simulators.laps.session_video import PitVisit, Session

RepeatKind = Literal["plain", "out_and_in", "pit", "stop", "traffic", "light", "variable_rate", "fast_rate"]
SingleKind = Literal["part_of_lap", "long_road", "there_and_back", "standing", "dark"]

#: Sessions with complete laps, and sessions in which no place is passed twice in the same direction.
REPEATS: Final[tuple[RepeatKind, ...]] = (
    "plain",
    "out_and_in",
    "pit",
    "stop",
    "traffic",
    "light",
    "variable_rate",
    "fast_rate",
)
SINGLES: Final[tuple[SingleKind, ...]] = ("part_of_lap", "long_road", "there_and_back", "standing", "dark")


@dataclass(frozen=True)
class SessionPlan:
    """Circuit, drive and camera of one video."""

    circuit: Circuit
    session: Session
    camera: CarCamera


def session_plan(
    kind: RepeatKind | SingleKind,
    seed: int,
    *,
    size: tuple[int, int] = (256, 144),
    length_m: float | None = None,
    laps: float | None = None,
) -> SessionPlan:
    """Plan a session: by default 2.1 to 3.2 laps of 480 to 620 m, each driven differently, from a place of its own."""
    random = np.random.default_rng([seed, 97])
    length_m = float(random.uniform(480, 620)) if length_m is None else length_m
    length_m = length_m * 4 if kind == "long_road" else length_m
    circuit = make_circuit(seed, length_m)
    start_m = -float(random.uniform(0.05, 0.95)) * length_m
    rounds = float(random.uniform(2.1, 3.2)) if laps is None else laps
    if kind in ("part_of_lap", "there_and_back", "dark"):
        rounds = float(random.uniform(0.7, 0.9))
    elif kind == "long_road":
        rounds = 0.35
    mistakes = tuple((float(random.uniform(0, 1)) * length_m, 50.0, float(random.uniform(0.75, 0.9))) for _ in range(2))
    driver = Driver(seed=seed, start_m=start_m, distance_m=rounds * length_m, slow_places=mistakes, unevenness=0.08)
    ends_m = start_m + rounds * length_m
    camera = CarCamera(
        width_px=size[0],
        height_px=size[1],
        rate_hz=float(random.choice([15, 15, 20, 30])),
        seed=seed,
        occluder=random.choice(["bonnet", "dashboard"]),
    )
    session = Session(driver, kind=kind if kind in ("standing", "there_and_back") else "driving")
    middle_m = start_m + float(random.uniform(0.4, 0.6)) * rounds * length_m
    match kind:
        case "out_and_in":
            paces = (
                (start_m - 100.0, start_m + 0.6 * length_m, 0.6),
                (ends_m - 0.5 * length_m, ends_m + 100.0, 0.65),
            )
            session = replace(session, paces=paces)
        case "pit":
            session = replace(session, pit=PitVisit(middle_m - 60, middle_m + 100))
        case "stop":
            session = replace(session, driver=replace(driver, stops=((middle_m, 8.0),)))
        case "traffic":
            first, second = start_m + 0.2 * length_m, ends_m - 0.7 * length_m
            traffic = ((first, first + 0.6 * length_m, 14.0), (second, second + 0.5 * length_m, 9.0))
            session = replace(session, traffic=traffic)
        case "light":
            places = np.arange(start_m, ends_m + 100, 100.0)
            gains = np.exp(np.cumsum(random.normal(0, 0.18, len(places))))
            gains = np.clip(gains / gains[0], 0.45, 1.9)
            light = tuple((float(place), float(gain)) for place, gain in zip(places, gains, strict=True))
            session = replace(session, light=light)
        case "variable_rate":
            camera = replace(camera, rate_hz=15.0, rate_jitter=0.4, dropped=0.08, first_timestamp_s=1.5)
        case "fast_rate":
            camera = replace(camera, rate_hz=60.0)
        case "dark":
            camera = replace(camera, gain=0.012, noise=3.0)
    return SessionPlan(circuit, session, camera)
