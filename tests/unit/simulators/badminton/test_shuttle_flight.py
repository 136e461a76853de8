"""The shuttle flies as gravity and quadratic drag have it, and lands where it is aimed at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from modal_workers.badminton.court.dimensions import NET_Y_M
from simulators.badminton.play.shots import net_height_m, play_shot
from simulators.badminton.play.shuttle_flight import GRAVITY_MPS2, TERMINAL_VELOCITY_MPS, aim, fly


def test_a_dropped_shuttle_reaches_its_terminal_velocity() -> None:
    flight = fly(np.array([3.0, 3.0, 60.0]), np.zeros(3), 0.0)
    # The closed solution of dv/dt = g - g (v / vt)^2.
    vt = TERMINAL_VELOCITY_MPS
    fallen = vt**2 / GRAVITY_MPS2 * math.log(math.cosh(GRAVITY_MPS2 * 1.0 / vt))
    assert 60.0 - flight.at(1.0)[2] == pytest.approx(fallen, abs=1e-3)
    assert (flight.at(6.0)[2] - flight.at(6.5)[2]) / 0.5 == pytest.approx(vt, rel=1e-3)


def test_drag_takes_the_speed_of_a_flat_shot_as_the_closed_solution_says() -> None:
    flight = fly(np.array([0.0, 0.0, 2.0]), np.array([60.0, 0.0, 0.0]), 0.0)
    drag_per_m = GRAVITY_MPS2 / TERMINAL_VELOCITY_MPS**2
    way = math.log(1 + drag_per_m * 60.0 * 0.15) / drag_per_m  # without gravity
    assert flight.at(0.15)[0] == pytest.approx(way, rel=0.01)


@pytest.mark.parametrize(("elevation_deg", "height_m"), [(-8, 2.6), (5, 1.4), (35, 2.4), (60, 0.6)])
def test_a_shot_lands_where_it_is_aimed_at(elevation_deg: float, height_m: float) -> None:
    start, target = np.array([2.0, 11.0, height_m]), np.array([4.0, 3.5, 0.03])
    velocity = aim(start, target, math.radians(elevation_deg))
    assert velocity is not None
    assert fly(start, velocity, 0.03).xyz_m[-1] == pytest.approx(target, abs=0.01)


def test_a_shot_rises_to_a_target_above_it() -> None:
    start, target = np.array([3.9, 5.1, 0.2]), np.array([3.6, 6.68, 1.26])
    velocity = aim(start, target, math.radians(50))
    assert velocity is not None
    flight = fly(start, velocity, 1.26)
    assert flight.xyz_m[-1] == pytest.approx(target, abs=0.01)
    assert np.linalg.norm(np.diff(flight.xyz_m, axis=0), axis=1).max() < 0.06
    assert flight.xyz_m[-2, 2] > 1.26, "it falls onto the target"


@pytest.mark.parametrize("kind", ["short_serve", "high_serve", "clear", "drop", "smash", "net", "lift", "drive"])
def test_a_shot_without_an_error_passes_the_net(kind: str) -> None:
    random = np.random.default_rng(5)
    for away in (1.0, -1.0):
        start = np.array([2.5, NET_Y_M + 4.0 * away, 2.4 if kind in ("clear", "drop", "smash") else 1.0])
        flight = play_shot(random, kind, start, doubles=False).flight  # type: ignore[arg-type]
        crossing_s = flight.crossing_s(NET_Y_M)
        assert crossing_s is not None
        x, _, height = flight.at(crossing_s)
        assert height > net_height_m(float(x))
        assert (flight.xyz_m[-1, 1] - NET_Y_M) * away < 0


def test_a_shot_into_the_net_ends_below_its_edge() -> None:
    shot = play_shot(np.random.default_rng(2), "drive", np.array([3.0, 10.0, 1.3]), doubles=True, error="net")
    assert shot.error == "net"
    x, y, height = shot.flight.xyz_m[-1]
    assert y == pytest.approx(NET_Y_M, abs=0.03)
    assert height < net_height_m(float(x))
