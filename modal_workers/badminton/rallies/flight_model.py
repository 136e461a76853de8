"""Flights in space, fitted to what one calibrated camera sees of them.

A shuttle falls and is slowed in proportion to the square of its speed, along its path: six numbers (place and velocity
at the start) say all. Many fits run at once, by Levenberg and Marquardt, each from several starts. What a few pixels do
not determine is held by what is known of any shuttle in play: it is on or over the court, and below 4 m when it is hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_Y_M

Floats = NDArray[np.float64]

GRAVITY_M_S2: Final = 9.81
#: L. M. Chen, Y. H. Pan, Y. J. Chen, "A study of shuttlecock's trajectory in badminton", 2009.
TERMINAL_VELOCITY_M_S: Final = 6.8
_DRAG_PER_M: Final = GRAVITY_M_S2 / TERMINAL_VELOCITY_M_S**2
#: Grid of the integration: fine where a smash is slowed, coarse later.
_GRID_S: Final = np.concatenate(
    [np.arange(8) * 0.0125, 0.1 + np.arange(6) * 0.025, 0.25 + np.arange(5) * 0.05, 0.5 + np.arange(40) * 0.075]
)
#: Standard deviation of a tracked position in a picture 720 pixels high.
_NOISE_PX: Final = 2.5
#: Residuals beyond this many standard deviations count linearly.
_HUBER: Final = 3.0
#: Place and velocity at the start of a flight before anything is seen: mean and standard deviation.
_PRIOR_MEAN: Final = np.array([3.05, 6.7, 1.5, 0.0, 0.0, 2.0])
_PRIOR_SPREAD: Final = np.array([2.2, 4.5, 0.9, 6.0, 25.0, 16.0])
#: First approximations are made for velocities along the court so many standard deviations from what is expected: the
#: pixels of a flight away from the camera are nearly those of one that falls in one place, and a fit that begins at the
#: one does not find the other. Two are enough where the velocity is known by this much.
_STARTS: Final = (-1.4, -0.3, 0.3, 1.4)
_FEW_STARTS: Final = (-0.8, 0.8)
_KNOWN_M_S: Final = 20.0
_START_SPREAD_M_S: Final = 0.5
_LEAST_SPEED_M_S: Final = 7.0
_ITERATIONS: Final = 8
#: What is not settled by then goes on in rounds, each of which improves its cost by at least this: of a high lift that
#: leaves the picture at once, the first approximation is ten metres wrong.
_ROUND: Final = 6
_MOST_ROUNDS: Final = 6
_IMPROVED: Final = 1.0
_NEAREST_M: Final = 0.05
#: No shuttle is seen below the floor; one standard deviation of a place there (the court's error, half of a shuttle).
_BELOW_FLOOR_M: Final = 0.1
#: The same of a place in the net's plane: half of the way between two sightings, too.
_AT_NET_M: Final = 0.2


@dataclass(frozen=True, eq=False)
class FlightFits:
    """Results of B fits: ``state`` [B, 6] (place, velocity at the start), ``covariance`` [B, 6, 6], ``cost`` [B]."""

    state: Floats
    covariance: Floats
    #: Squared residuals in standard deviations, with those of the prior knowledge.
    cost: Floats


@dataclass(frozen=True, eq=False)
class Sightings:
    """Sightings of B flights: ``elapsed_s`` [B, T], ``pixels`` [B, T, 2], ``weight`` [B, T] (0 where there is none).

    ``at_net`` [B, T], where it is given: 1 at times at which the flight is in the net's plane, seen or not, else 0.
    """

    elapsed_s: Floats
    pixels: Floats
    weight: Floats
    at_net: Floats | None = None

    def rows(self, chosen: NDArray[np.int64]) -> Sightings:
        """Return some of the flights."""
        at_net = self.at_net[chosen] if self.at_net is not None else None
        return Sightings(self.elapsed_s[chosen], self.pixels[chosen], self.weight[chosen], at_net)


def fly(state: Floats, elapsed_s: Floats) -> Floats:
    """Return places [B, T, 3] of flights [B, 6] at times [B, T] since their start; before it, along a straight line."""
    return _paths(state, elapsed_s)[0]


def velocity(state: Floats, elapsed_s: float) -> Floats:
    """Return the velocity [3] of one flight [6] at a time."""
    step = 1e-3
    times = np.array([[max(elapsed_s, step) - step, max(elapsed_s, step) + step]])
    before, after = fly(state[None], times)[0]
    return np.asarray((after - before) / (2 * step))


@dataclass(frozen=True, eq=False)
class Prior:
    """Knowledge of B flights before they are seen: ``mean`` [B, 6] of the state at the start, ``spread`` [B, 6]."""

    mean: Floats
    spread: Floats

    @classmethod
    def of_any(cls, count: int) -> Prior:
        """Return what is known of any flight in play."""
        return cls(np.tile(_PRIOR_MEAN, (count, 1)), np.tile(_PRIOR_SPREAD, (count, 1)))


@dataclass(frozen=True, eq=False)
class SpaceCamera:
    """A calibrated camera: [3, 4] from homogeneous metres to pixels, and the height of its picture."""

    image_from_space: Floats
    picture_size: tuple[int, int]

    def project(self, places_m: Floats) -> Floats:
        """Return pixels (…, 2) of places (…, 3); NaN behind the camera."""
        mapped = places_m @ self.image_from_space[:, :3].T + self.image_from_space[:, 3]
        return np.asarray(mapped[..., :2] / np.where(mapped[..., 2:] > 1e-6, mapped[..., 2:], np.nan))


def place_covariance(state: Floats, covariance: Floats, elapsed_s: float) -> Floats:
    """Return the covariance [3, 3] of the place at a time of one flight."""
    times = np.array([[elapsed_s]])
    _place, by_speed, by_climb = _paths(state[None], times)
    slope = np.concatenate([np.eye(3), _by_velocity(state[None], times, by_speed, by_climb)[0, 0]], axis=1)
    return np.asarray(slope @ covariance @ slope.T)


def fit_flights(sightings: Sightings, camera: SpaceCamera, prior: Prior | None = None) -> FlightFits:
    """Fit flights to what a camera sees of them."""
    noise = _NOISE_PX * camera.picture_size[1] / 720
    if prior is None:
        prior = Prior.of_any(len(sightings.weight))
    starts = _FEW_STARTS if float(prior.spread[:, 4].max(initial=0.0)) < _KNOWN_M_S else _STARTS
    fits = [
        _refine(_first_state(sightings, camera.image_from_space, prior, start), sightings, camera, (noise, prior))
        for start in starts
    ]
    best = np.argmin([fit.cost for fit in fits], axis=0)
    rows = np.arange(len(best))
    found = FlightFits(
        np.stack([fit.state for fit in fits])[best, rows],
        np.stack([fit.covariance for fit in fits])[best, rows],
        np.stack([fit.cost for fit in fits])[best, rows],
    )
    for _ in range(_MOST_ROUNDS):
        known = Prior(prior.mean[rows], prior.spread[rows])
        better = _refine(found.state[rows], sightings.rows(rows), camera, (noise, known), _ROUND)
        improved = better.cost < found.cost[rows] - _IMPROVED
        found.state[rows], found.covariance[rows], found.cost[rows] = better.state, better.covariance, better.cost
        rows = rows[improved]
        if not len(rows):
            break
    return found


def _first_state(sightings: Sightings, camera: Floats, prior: Prior, start: float) -> Floats:
    """Return flights by linear equations, as if the drag were that of a constant speed.

    Their velocity along the court is ``start`` standard deviations from the expected one.
    """
    along = prior.mean[:, 4] + start * prior.spread[:, 4]
    mean, spread = prior.mean.copy(), prior.spread.copy()
    mean[:, 4], spread[:, 4] = along, _START_SPREAD_M_S
    # A contact may be put a little after the first sight of the flight.
    time = np.maximum(sightings.elapsed_s, 0.0)
    rate = _DRAG_PER_M * np.maximum(np.abs(along), _LEAST_SPEED_M_S)[:, None]
    slowed = np.log1p(rate * time) / rate
    fallen = GRAVITY_M_S2 * (time / rate - (1 - np.exp(-rate * time)) / rate**2)
    # Each pixel coordinate: (row of the camera - pixel * last row) applied to the place is zero.
    rows = camera[None, None, :2, :] - sightings.pixels[..., None] * camera[None, None, 2:3, :]
    depth = float(camera[2] @ [3.05, 6.7, 1.5, 1.0])
    focal = float(np.linalg.norm(camera[0, :3]))
    scale = sightings.weight[..., None] * np.sqrt(abs(depth)) / max(focal, 1e-9)
    matrix = np.concatenate([rows[..., :3], rows[..., :3] * slowed[..., None, None]], axis=3) * scale[..., None]
    right = -(rows[..., 3] - rows[..., 2] * fallen[..., None]) * scale
    count = len(time)
    matrix, right = matrix.reshape(count, -1, 6), right.reshape(count, -1)
    # A residual of the equations in metres beside the camera: a few hundredths.
    trust = (0.03 / spread) ** 2
    normal = matrix.transpose(0, 2, 1) @ matrix + trust[:, :, None] * np.eye(6)
    known = (matrix * right[..., None]).sum(1) + trust * mean
    return np.asarray(np.linalg.solve(normal, known[..., None])[..., 0])


def _refine(
    state: Floats,
    sightings: Sightings,
    camera: SpaceCamera,
    assumed: tuple[float, Prior],
    count: int = _ITERATIONS,
) -> FlightFits:
    damping = np.full(len(state), 1e-2)
    cost, normal, gradient = _linearised(state, sightings, camera, assumed)
    for _ in range(count):
        diagonal = np.einsum("bii->bi", normal)
        step = np.linalg.solve(normal + (damping[:, None] * diagonal)[:, :, None] * np.eye(6), gradient[..., None])
        tried = state + np.clip(step[..., 0], -20, 20)
        new_cost, new_normal, new_gradient = _linearised(tried, sightings, camera, assumed)
        better = new_cost < cost
        state = np.where(better[:, None], tried, state)
        cost = np.where(better, new_cost, cost)
        normal = np.where(better[:, None, None], new_normal, normal)
        gradient = np.where(better[:, None], new_gradient, gradient)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-6, 1e6)
    return FlightFits(state, np.asarray(np.linalg.inv(normal), np.float64), cost)


def _linearised(
    state: Floats, sightings: Sightings, space_camera: SpaceCamera, assumed: tuple[float, Prior]
) -> tuple[Floats, Floats, Floats]:
    """Return cost [B], normal matrix [B, 6, 6] and negative gradient [B, 6]."""
    (noise, prior), camera = assumed, space_camera.image_from_space
    place, by_speed, by_climb = _paths(state, sightings.elapsed_s)
    mapped = place @ camera[:, :3].T + camera[:, 3]
    # Behind the camera nothing is seen: such a flight is as wrong as can be.
    seen = mapped[..., 2] > _NEAREST_M
    depth = np.where(seen, mapped[..., 2], _NEAREST_M)
    error = np.where(seen[..., None], mapped[..., :2] / depth[..., None] - sightings.pixels, 1e4) / noise
    size = np.hypot(error[..., 0], error[..., 1])
    robust = sightings.weight * seen * np.where(size > _HUBER, _HUBER / np.maximum(size, 1e-9), 1.0)
    loss = np.where(size > _HUBER, 2 * _HUBER * size - _HUBER**2, size**2)
    slope = (camera[:2, :3] - (mapped[..., :2] / depth[..., None])[..., None] * camera[2, :3]) / depth[..., None, None]
    by_velocity = _by_velocity(state, sightings.elapsed_s, by_speed, by_climb)
    jacobian = np.concatenate([slope, slope @ by_velocity], axis=3) / noise
    weighted = jacobian * robust[..., None, None]
    normal = np.einsum("btij,btik->bjk", weighted, jacobian)
    gradient = -np.einsum("btij,bti->bj", weighted, error)
    # A path that leaves the hall through the floor fits the pixels of a bounce as those of a fast shot.
    below = np.where(sightings.weight > 0, np.minimum(place[..., 2], 0.0), 0.0) / _BELOW_FLOOR_M
    lowered = np.concatenate([np.broadcast_to([0.0, 0.0, 1.0], place.shape), by_velocity[..., 2, :]], axis=2)
    lowered = lowered * (below < 0)[..., None] / _BELOW_FLOOR_M
    normal += lowered.transpose(0, 2, 1) @ lowered
    gradient -= (lowered * below[..., None]).sum(1)
    offset = (state - prior.mean) / prior.spread
    cost = (sightings.weight * loss).sum(1) + (below**2).sum(1) + (offset**2).sum(1)
    if sightings.at_net is not None:
        away = sightings.at_net * (place[..., 1] - NET_Y_M) / _AT_NET_M
        nearer = np.concatenate([np.broadcast_to([0.0, 1.0, 0.0], place.shape), by_velocity[..., 1, :]], axis=2)
        nearer = nearer * sightings.at_net[..., None] / _AT_NET_M
        normal += nearer.transpose(0, 2, 1) @ nearer
        gradient -= (nearer * away[..., None]).sum(1)
        cost += (away**2).sum(1)
    return cost, normal + (prior.spread**-2.0)[:, :, None] * np.eye(6), gradient - offset / prior.spread


def _by_velocity(state: Floats, elapsed_s: Floats, by_speed: Floats, by_climb: Floats) -> Floats:
    """Return the derivative [B, T, 3, 3] of the place by the velocity at the start.

    ``by_speed`` and ``by_climb`` hold way and height by the horizontal and by the vertical speed.
    """
    horizontal = np.maximum(np.hypot(state[:, 3], state[:, 4]), 1e-6)
    direction = (state[:, 3:5] / horizontal[:, None])[:, None]
    derivative = np.zeros((*elapsed_s.shape, 3, 3))
    outer = direction[..., :, None] * direction[..., None, :]
    turned = (by_speed[..., 2] / horizontal[:, None])[..., None, None]
    derivative[..., :2, :2] = by_speed[..., 0, None, None] * outer + turned * (np.eye(2) - outer)
    derivative[..., :2, 2] = by_climb[..., 0, None] * direction
    derivative[..., 2, :2] = by_speed[..., 1, None] * direction
    derivative[..., 2, 2] = by_climb[..., 1]
    return derivative


def _paths(state: Floats, elapsed_s: Floats) -> tuple[Floats, Floats, Floats]:
    """Return places [B, T, 3] and the derivatives of (way, height) by both speeds, with the way as third entry."""
    count = len(state)
    horizontal = np.maximum(np.hypot(state[:, 3], state[:, 4]), 1e-6)
    change = 1e-3
    across = np.concatenate([horizontal, horizontal + change, horizontal])
    climb = np.concatenate([state[:, 5], state[:, 5], state[:, 5] + change])
    last = int(np.searchsorted(_GRID_S, float(elapsed_s.max(initial=0.0)))) + 1
    grid = _GRID_S[: max(2, last + 1)]
    motion = _integrated(across, climb, grid)
    index = np.tile(np.clip(np.searchsorted(grid, elapsed_s, side="right") - 1, 0, len(grid) - 2), (3, 1))
    step = (grid[1:] - grid[:-1])[index]
    share = (np.tile(elapsed_s, (3, 1)) - grid[index]) / step
    before, after = (np.take_along_axis(motion, at[None], axis=2) for at in (index, index + 1))
    # Hermite's cubic; before the start it would bend, so the path is straight there.
    rising = share**2 * (3 - 2 * share)
    way, height = (
        before[axis] * (1 - rising)
        + after[axis] * rising
        + step * share * (1 - share) * (before[axis + 2] * (1 - share) - after[axis + 2] * share)
        for axis in (0, 1)
    )
    early = share < 0
    way = np.where(early, step * share * before[2], way)
    height = np.where(early, step * share * before[3], height)
    direction = (state[:, 3:5] / horizontal[:, None])[:, None]
    own, faster, steeper = slice(count), slice(count, 2 * count), slice(2 * count, None)
    place = np.concatenate([direction * way[own, :, None], height[own, :, None]], axis=2) + state[:, None, :3]
    by_speed = np.stack([(way[faster] - way[own]) / change, (height[faster] - height[own]) / change, way[own]], axis=2)
    by_climb = np.stack([(way[steeper] - way[own]) / change, (height[steeper] - height[own]) / change], axis=2)
    return place, by_speed, by_climb


def _integrated(across: Floats, climb: Floats, grid: Floats) -> Floats:
    """Return way, height and both speeds [4, B, G] of flights in a vertical plane, by Runge and Kutta's method."""
    # Complex numbers, way and height: with so few flights at once the number of operations is what takes time.
    place, speed = np.zeros((2, len(grid), len(across)), np.complex128)
    now = speed[0] = across + 1j * climb
    for index, step in enumerate(np.diff(grid).tolist(), 1):
        first = _acceleration(now)
        half = now + first * (step / 2)
        second = _acceleration(half)
        middle = now + second * (step / 2)
        third = _acceleration(middle)
        end = now + third * step
        fourth = _acceleration(end)
        place[index] = place[index - 1] + (now + 2 * (half + middle) + end) * (step / 6)
        now = speed[index] = now + (first + 2 * (second + third) + fourth) * (step / 6)
    return np.stack([place.real.T, place.imag.T, speed.real.T, speed.imag.T])


def _acceleration(speed: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return np.asarray((-_DRAG_PER_M * np.abs(speed)) * speed - 1j * GRAVITY_M_S2)
