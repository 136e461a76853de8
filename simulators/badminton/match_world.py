"""The match in space: joints of all persons and the shuttle's place at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.body.body_motion import BodyMotion, body_motion, sampled
from simulators.badminton.body.skeleton import JOINTS, smooth_step
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.picture.looks import Look, random_look
from simulators.badminton.play.match_play import MatchPlay
from simulators.badminton.play.match_script import MatchScript

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]

#: What the shuttle does.
NO_SHUTTLE, IN_FLIGHT, ON_FLOOR, IN_HAND = range(4)
_CATCH_M: Final = 0.7
_CATCH_S: Final = 0.3


@dataclass(frozen=True, eq=False)
class MatchWorld:
    """Players and shuttle of a match."""

    options: MatchOptions
    script: MatchScript
    bodies: tuple[BodyMotion, ...]
    looks: tuple[Look, ...]

    def shuttle(self, times_s: Floats) -> tuple[Floats, Codes]:
        """Return the shuttle's places [N, 3] and what it does [N] at times in any order; NaN without a shuttle."""
        places = np.full((len(times_s), 3), np.nan)
        codes = np.full(len(times_s), NO_SHUTTLE, np.uint8)
        for start_s, flight in self.script.flights:
            after = times_s - start_s
            lying = after >= flight.duration_s
            places[lying], codes[lying] = flight.xyz_m[-1], ON_FLOOR
            flying = (after >= 0) & ~lying
            for axis in range(3):
                places[flying, axis] = np.interp(after[flying], flight.time_s, flight.xyz_m[:, axis])
            codes[flying] = IN_FLIGHT
        for held in self.script.held:
            within = (times_s >= held.start_s) & (times_s < held.end_s)
            joints = self.bodies[held.player].joints_m
            hand = JOINTS["left_hand" if self.script.movers[held.player].right_handed else "right_hand"]
            in_hand = sampled(joints[:, hand], times_s[within])
            # The hand closes around a shuttle that lies or flies near to it.
            ways = np.nan_to_num(places[within] - in_hand)
            near = np.linalg.norm(ways, axis=1, keepdims=True) < _CATCH_M
            left = 1 - smooth_step((times_s[within] - held.start_s) / _CATCH_S)
            places[within] = in_hand + ways * near * left[:, None]
            codes[within] = IN_HAND
        return places, codes

    def joints(self, times_s: Floats) -> Floats:
        """Return the players' joints [P, N, J, 3] at times."""
        found = [body.sampled(times_s) for body in self.bodies]
        return np.stack(found) if found else np.empty((0, len(times_s), len(JOINTS), 3))

    def velocities(self, times_s: Floats) -> Floats:
        """Return the velocities [P, N, 2] of the players' hips over the floor, without their steps."""
        found = [sampled(body.velocity_mps, times_s) for body in self.bodies]
        return np.stack(found) if found else np.empty((0, len(times_s), 2))


def make_world(options: MatchOptions) -> MatchWorld:
    """Play the match and move the players' limbs."""
    random = np.random.default_rng([options.seed, 37])
    script = MatchPlay(options).play()
    count = len(script.movers)
    shirts = random.permutation(10)
    looks = [
        random_look(random, racket=True, number=int(shirts[player * 2 // count] if count == 4 else shirts[player]))
        for player in range(count)
    ]
    if options.persons == "none":
        return MatchWorld(options, MatchScript([], options.duration_s), (), ())
    if options.persons == "one":
        # The near player practises alone: the movements of a match without a shuttle.
        body = body_motion(script, count - 1, looks[-1].height_m)
        return MatchWorld(options, MatchScript(script.movers[-1:], options.duration_s), (body,), (looks[-1],))
    bodies = tuple(body_motion(script, player, looks[player].height_m) for player in range(count))
    return MatchWorld(options, script, bodies, tuple(looks))
