"""Videos of continuous driving on one circuit: several laps with out-lap, in-lap, stops, pits, light and traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import Circuit
from simulators.laps.driver import DrivenLap, Driver, simulate_lap
from simulators.laps.frame_renderer import CircuitWorld, FrameRenderer
from simulators.laps.lap_video import frame_times, write_video

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

#: Half the width and the height of a car in traffic.
_CAR_M: Final = (0.9, 1.35)
_STANDING_S: Final = 20.0


@dataclass(frozen=True)
class PitVisit:
    """A drive through a pit lane beside the road, with a stop in it. Places are unwrapped."""

    from_m: float
    to_m: float
    offset_m: float = -9.0
    speed_mps: float = 16.0
    rest_s: float = 6.0


@dataclass(frozen=True)
class Session:
    """A drive. Places are unwrapped: lap n begins at n times the circuit's length."""

    driver: Driver  # start_m is the place of the first frame, distance_m how far it goes
    paces: tuple[tuple[float, float, float], ...] = ()  # (from_m, to_m, share of the driver's speed)
    pit: PitVisit | None = None
    # (from_m, to_m, distance ahead in m) of another car
    traffic: tuple[tuple[float, float, float], ...] = ()
    # (place_m, gain): exposure between them is interpolated
    light: tuple[tuple[float, float], ...] = ()
    kind: Literal["driving", "standing", "there_and_back"] = "driving"


_ENDS: Final = (slice(0, 2), slice(-2, None))


@dataclass(frozen=True)
class SessionTruth:
    """True places of a car. Shapes: frame_time_s, frame_place_m [F]; ``drive`` is finely sampled."""

    circuit_length_m: float
    frame_time_s: Floats
    frame_place_m: Floats
    drive: DrivenLap

    @property
    def duration_s(self) -> float:
        """Time of the last frame."""
        return float(self.frame_time_s[-1])

    def crossings_s(self, place_m: float = 0.0, beyond_s: float = 0.0) -> list[float]:
        """Return the times at which the car passes a place of the circuit, while it is filmed.

        ``beyond_s``: and for so long before the first frame and after the last, at the speed of these frames.
        """
        places_m, times_s = self.drive.place_m, self.drive.time_s
        if beyond_s:
            before_m, after_m = (beyond_s * float(np.diff(places_m[at])[0] / np.diff(times_s[at])[0]) for at in _ENDS)
            places_m = np.concatenate([[places_m[0] - before_m], places_m, [places_m[-1] + after_m]])
            times_s = np.concatenate([[times_s[0] - beyond_s], times_s, [times_s[-1] + beyond_s]])
        until_s = self.duration_s + beyond_s
        number = int(np.ceil((places_m[0] - place_m) / self.circuit_length_m))
        found: list[float] = []
        while (wanted := place_m + number * self.circuit_length_m) <= places_m[-1]:
            found.append(float(np.interp(wanted, places_m, times_s)))
            number += 1
        return [time_s for time_s in found if time_s <= until_s]


def session_truth(circuit: Circuit, session: Session, camera: CarCamera) -> SessionTruth:
    """Return the ground truth without rendering it."""
    drive = _driven(circuit, session)
    times = frame_times(camera, _STANDING_S if session.kind == "standing" else float(drive.time_s[-1]))
    place = np.full(len(times), drive.place_m[0]) if session.kind == "standing" else drive.place_at(times)
    return SessionTruth(circuit.length_m, times, place, drive)


def render_session(
    path: Path,
    world: CircuitWorld,
    session: Session,
    camera: CarCamera,
    progress: Callable[[float], None] | None = None,
) -> SessionTruth:
    """Render a session to ``path`` (H.264) and return its ground truth."""
    truth = session_truth(world.circuit, session, camera)
    picture = _SessionPictures(world, session, camera, truth)
    write_video(path, camera, truth.frame_time_s, picture.draw, progress)
    return truth


def _driven(circuit: Circuit, session: Session) -> DrivenLap:
    drive = simulate_lap(circuit, session.driver)
    middle = (drive.place_m[1:] + drive.place_m[:-1]) / 2
    step_s = np.diff(drive.time_s)
    for from_m, to_m, pace in session.paces:
        # paces change over 20 m, as a driver's do
        inside = np.clip((middle - from_m) / 20, 0, 1) * np.clip((to_m - middle) / 20, 0, 1)
        step_s = step_s / (1 - (1 - pace) * inside)
    offset = drive.offset_m
    if pit := session.pit:
        lane = np.flatnonzero((middle > pit.from_m) & (middle < pit.to_m))
        step_s[lane] = np.maximum(step_s[lane], np.diff(drive.place_m)[lane] / pit.speed_mps)
        if len(lane):
            step_s[int(np.mean(lane))] += pit.rest_s
        away = np.clip((drive.place_m - pit.from_m) / 30, 0, 1) * np.clip((pit.to_m - drive.place_m) / 30, 0, 1)
        offset = offset + (pit.offset_m - offset) * away
    time_s = np.concatenate([[0.0], np.cumsum(step_s)])
    place_m, acceleration = drive.place_m, drive.acceleration_mps2
    if session.kind == "there_and_back":
        time_s = np.concatenate([time_s, time_s[-1] + np.cumsum(step_s[::-1])])
        place_m, offset = (np.concatenate([values, values[-2::-1]]) for values in (place_m, offset))
        acceleration = np.concatenate([acceleration, -acceleration[-2::-1]])
    return DrivenLap(time_s, place_m, offset, acceleration)


class _SessionPictures:
    """The frames of a session."""

    def __init__(self, world: CircuitWorld, session: Session, camera: CarCamera, truth: SessionTruth) -> None:
        self._circuit, self._session, self._camera, self._truth = world.circuit, session, camera, truth
        self._ahead = FrameRenderer(world, camera)
        self._back = FrameRenderer(world, replace(camera, yaw_rad=camera.yaw_rad + np.pi))
        drive, times = truth.drive, truth.frame_time_s
        standing = session.kind == "standing"
        driven_s = np.zeros(len(times)) if standing else times
        self._offset = np.interp(driven_s, drive.time_s, drive.offset_m)
        self._acceleration = np.interp(driven_s, drive.time_s, drive.acceleration_mps2) * (not standing)
        turns_at_s = drive.time_s[int(drive.place_m.argmax())] if session.kind == "there_and_back" else np.inf
        self._returns = (times > turns_at_s) & (not standing)

    def draw(self, index: int) -> Picture:
        """Return the frame [H, W, 3] BGR."""
        place_m, offset_m = float(self._truth.frame_place_m[index]), float(self._offset[index])
        renderer = self._back if self._returns[index] else self._ahead
        frame = renderer.draw(place_m, offset_m, float(self._acceleration[index]), index)
        for from_m, to_m, ahead_m in self._session.traffic:
            if from_m < place_m < to_m:
                self._car(frame, place_m, offset_m, ahead_m + 4.0 * np.sin(place_m / 35))
        if self._session.light:
            places, gains = zip(*self._session.light, strict=True)
            gain = float(np.interp(place_m, places, gains))
            frame = np.asarray(cv2.convertScaleAbs(frame, alpha=gain))
        return frame

    def _car(self, frame: Picture, place_m: float, offset_m: float, ahead_m: float) -> None:
        """Draw the rear of a car ahead."""
        camera = self._camera
        heading = float(self._circuit.heading_at(np.array([place_m]))[0])
        eye = np.append(self._circuit.at(np.array([place_m]), offset_m + camera.sideways_m)[0], camera.height_m)
        foot = self._circuit.at(np.array([place_m + ahead_m]), 0.6 * float(np.sin(place_m / 60)))[0]
        local = camera.rotation(heading) @ (np.append(foot, 0.0) - eye)
        if local[2] < 3:
            return
        across, down, _ = camera.intrinsic @ (local / local[2])
        scale = camera.focal_px / local[2]
        left, right = int(across - _CAR_M[0] * scale), int(across + _CAR_M[0] * scale)
        top, bottom = int(down - _CAR_M[1] * scale), int(down)
        cv2.rectangle(frame, (left, bottom - int(0.15 * scale)), (right, bottom), (18, 18, 20), -1)
        cv2.rectangle(frame, (left, top), (right, bottom - int(0.15 * scale)), (60, 40, 190), -1)
        inset = int(0.2 * scale)
        glass = (left + inset, top + inset // 2), (right - inset, top + int(0.5 * scale))
        cv2.rectangle(frame, *glass, (52, 46, 40), -1)
        for x in (left, right - inset):
            cv2.rectangle(frame, (x, top + int(0.6 * scale)), (x + inset, top + int(0.75 * scale)), (40, 40, 240), -1)
