"""Plays a match: rallies with shots, interceptions and errors, and the pauses between them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import NET_Y_M
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.play.interception import Interception, find_interception
from simulators.badminton.play.match_script import (
    Held,
    MatchScript,
    PlayedHit,
    RacketSwing,
    RallyEnd,
    SwingKind,
    TrueRally,
)
from simulators.badminton.play.movement import (
    ARRIVAL_MPS,
    FETCH_MPS,
    PLAY_ACCELERATION_MPS2,
    REACTION_S,
    STEP_S,
    WALK_MPS,
    Goal,
    Mover,
)
from simulators.badminton.play.shots import PlayedShot, ShotError, choose_kind, play_shot, soft_pass
from simulators.badminton.play.shuttle_flight import RESTING_HEIGHT_M, ShuttleFlight, fly
from simulators.badminton.play.sides import Sides
from simulators.badminton.play.tactics import Formation, ready_places, service_places

Floats = NDArray[np.float64]

_OUT_CHANCE: Final = 0.035
_NET_CHANCE: Final = 0.035
_MISS_CHANCE: Final = 0.03
#: From here on a rally is ended by an error.
_LONGEST_RALLY_HITS: Final = 24


class MatchPlay:
    """A match that is played step by step."""

    def __init__(self, options: MatchOptions) -> None:
        """Place the players at their bases."""
        self._options = options
        self._random = np.random.default_rng([options.seed, 11])
        self._sides = Sides(options.doubles)
        places = ready_places("defence", options.doubles)
        movers = []
        for player in range(len(self._sides.team)):
            x, y = self._sides.on_half(
                places[self._sides.members[self._sides.team[player]].index(player)], self._sides.team[player]
            )
            heading = -math.pi / 2 * self._sides.half[self._sides.team[player]]
            fastest, right_handed = float(self._random.uniform(4.2, 5.6)), bool(self._random.uniform() < 0.85)
            movers.append(Mover((x, y), fastest, heading_rad=heading, right_handed=right_handed))
        self.script = MatchScript(movers, options.duration_s)
        self._time_s = 0.0
        self._sides.score = [0, 0]

    def play(self) -> MatchScript:
        """Play until the end of the video."""
        options = self._options
        serving = int(self._random.integers(0, 2))
        shuttle: tuple[float, float] | None = None
        while self._time_s < options.duration_s:
            held_from = self._time_s
            if shuttle is not None:
                self._goals_at_rest()
                self._advance(float(self._random.uniform(0.7, 1.6)))
                server = self._sides.server(serving)
                held_from = self._time_s if options.quick_service else self._fetch(server, shuttle)
                if len(self.script.rallies) == options.change_of_ends_after:
                    self._change_ends()
            self._prepare_service(serving, held_from)
            rally, shuttle = self._rally(serving)
            if rally.start_s >= options.duration_s:
                break
            self.script.rallies.append(rally)
            if rally.winner_team == serving:
                self._sides.right[serving] ^= 1
            serving = rally.winner_team
        self._advance(max(options.duration_s + 0.5 - self._time_s, 0.0))
        return self.script

    # Rallies

    def _rally(self, serving: int) -> tuple[TrueRally, tuple[float, float]]:
        options, random, script = self._options, self._random, self.script
        server, to_right = self._sides.server(serving), self._sides.service_to_right(serving)
        start_m = self._service_point(server)
        short = random.uniform() < (0.8 if options.doubles else 0.45)
        shot = play_shot(
            random,
            "short_serve" if short else "high_serve",
            np.array(start_m),
            doubles=options.doubles,
            service_to_right=to_right,
        )
        start_s, hitter, count = self._time_s, server, 1
        while True:
            script.hits.append(PlayedHit(self._time_s, hitter, (start_m[0], start_m[1], start_m[2]), shot.kind))
            team = self._sides.team[hitter]
            meeting = self._receive(shot, 1 - team, count)
            if meeting is None or meeting.missed:
                end_s, winner, reason, place = self._end(shot, team, meeting)
                break
            self._advance(meeting.after_s, (hitter, meeting, shot))
            script.flights[-1] = (script.flights[-1][0], shot.flight.until(meeting.after_s))
            hitter, count, start_m = meeting.player, count + 1, meeting.shuttle_m
            shot = self._answer(np.array(start_m), count)
        self._sides.score[winner] += 1
        score = (self._sides.score[0], self._sides.score[1])
        return TrueRally(start_s, end_s, server, winner, reason, score, end_s <= options.duration_s), place

    def _answer(self, start_m: Floats, count: int) -> PlayedShot:
        random = self._random
        kind = choose_kind(random, abs(float(start_m[1]) - NET_Y_M), float(start_m[2]))
        error: ShotError | None = None
        chance = float(random.uniform())
        growth = 1.0 if count < _LONGEST_RALLY_HITS else 10.0
        if chance < _OUT_CHANCE * growth:
            error = "out"
        elif chance < (_OUT_CHANCE + _NET_CHANCE) * growth:
            error = "net"
        return play_shot(random, kind, start_m, doubles=self._options.doubles, error=error)

    def _receive(self, shot: PlayedShot, team: int, count: int) -> Interception | None:
        """Decide who of a team meets the shuttle where, and note the flight and the swing."""
        script, random = self.script, self._random
        script.flights.append((self._time_s, shot.flight))
        for player in range(len(script.movers)):
            if self._sides.team[player] == team:
                script.split_steps.append((self._time_s + 0.02, player))
        if shot.error == "net" or (shot.error == "out" and random.uniform() < 0.85):
            return None
        members = self._sides.members[team]
        if count == 1 and self._options.doubles:
            members = [self._sides.receiver(1 - team)]
        meeting = find_interception(random, shot.flight, [(player, script.movers[player]) for player in members])
        if meeting is None:
            return None
        if count > 2 and random.uniform() < _MISS_CHANCE:
            meeting = replace(meeting, missed=True)
        at_s = self._time_s + meeting.after_s
        kind: SwingKind = "overhead" if meeting.shuttle_m[2] > 1.8 else "underarm"
        jump = 0.25 if kind == "overhead" and meeting.shuttle_m[2] > 2.45 else 0.0
        script.swings.append(RacketSwing(at_s, meeting.player, kind, meeting.shuttle_m, meeting.lunge, jump))
        return meeting

    def _end(
        self, shot: PlayedShot, team: int, meeting: Interception | None
    ) -> tuple[float, int, RallyEnd, tuple[float, float]]:
        """Finish a rally with the last shot's fall; return end time, winner, reason and where the shuttle lies."""
        script, flight = self.script, shot.flight
        end_s = self._time_s + flight.duration_s
        last = flight.xyz_m[-1]
        self._run_after(shot, team, meeting)
        self._advance(flight.duration_s)
        if shot.error == "net":
            along = 1.0 if last[1] > NET_Y_M else -1.0
            fall = fly(last, np.array([0.0, along * 0.5, 0.0]), RESTING_HEIGHT_M)
            script.flights.append((end_s, fall))
            self._goals_at_rest()
            self._advance(fall.duration_s)
            last = fall.xyz_m[-1]
        else:
            self._bounce(flight, end_s)
            last = script.flights[-1][1].xyz_m[-1]
        reason: RallyEnd = "landed_in"
        if shot.error is not None:
            reason = shot.error
        elif meeting is not None:
            reason = "not_returned"
        winner = 1 - team if shot.error is not None else team
        return end_s, winner, reason, (float(last[0]), float(last[1]))

    def _bounce(self, flight: ShuttleFlight, end_s: float) -> None:
        """Add two small bounces on the floor."""
        last, before = flight.xyz_m[-1], flight.at(flight.duration_s - 0.02)
        speed = (last - before) / 0.02
        for part in (0.22, 0.08):
            hop = fly(last, np.array([speed[0] * part, speed[1] * part, -speed[2] * part]), RESTING_HEIGHT_M)
            self.script.flights.append((end_s, hop))
            end_s, last = end_s + hop.duration_s, hop.xyz_m[-1]

    def _run_after(self, shot: PlayedShot, team: int, meeting: Interception | None) -> None:
        """Send players after a shuttle that they do not return."""
        last = shot.flight.xyz_m[-1]
        for player, mover in enumerate(self.script.movers):
            if self._sides.team[player] == team:
                continue
            goal = self._facing(player, mover.place_m)
            chases = min(
                self._sides.members[1 - team],
                key=lambda one: math.dist(self.script.movers[one].place_m, (last[0], last[1])),
            )
            if meeting is not None and player == meeting.player:
                goal = self._facing(player, meeting.stance_m)
            elif meeting is None and shot.error is None and player == chases:
                short = np.array(mover.place_m) + 0.8 * (last[:2] - mover.place_m)
                goal = self._facing(player, (float(short[0]), float(short[1])))
            mover.goal = replace(goal, from_s=self._time_s + REACTION_S)

    # Movement

    def _advance(self, duration_s: float, rally: tuple[int, Interception, PlayedShot] | None = None) -> None:
        if rally is not None:
            self._rally_goals(*rally)
        end = round((self._time_s + duration_s) / STEP_S)
        for number in range(len(self.script.movers[0].history), end):
            for mover in self.script.movers:
                mover.step(number * STEP_S)
        self._time_s += duration_s

    def _rally_goals(self, hitter: int, meeting: Interception, shot: PlayedShot) -> None:
        """Send the receiver to the shuttle and the others to their bases."""
        formations: tuple[Formation, Formation] = (
            ("attack", "defence") if shot.kind in ("smash", "drop", "net") else ("defence", "attack")
        )
        shuttle = np.array(meeting.shuttle_m[:2])
        for player, mover in enumerate(self.script.movers):
            team = self._sides.team[player]
            if player == meeting.player:
                stance = meeting.stance_m
                goal = self._facing(player, stance, shuttle)
                mover.goal = replace(goal, from_s=self._time_s + REACTION_S, arrival_mps=ARRIVAL_MPS)
                continue
            places = ready_places(formations[0 if team == self._sides.team[hitter] else 1], self._options.doubles)
            members = self._sides.members[team]
            order = members
            if len(members) == 2:
                # Who is nearer to the first place (the front or the left) takes it; a receiver keeps the other free.
                first, second = (self._sides.on_half(place, team) for place in places)
                ways = [math.dist(self.script.movers[member].place_m, first) for member in members]
                keep = math.dist(self.script.movers[members[0]].place_m, second) + ways[1]
                order = (
                    members
                    if ways[0] + math.dist(self.script.movers[members[1]].place_m, second) <= keep
                    else (members[::-1])
                )
            place = self._sides.on_half(places[order.index(player)], team)
            goal = self._facing(player, place, shuttle)
            goal.fastest_mps = 3.2
            goal.from_s = self._time_s + (0.25 if player == hitter else 0.1)
            mover.goal = goal

    def _facing(self, player: int, place_m: tuple[float, float], shuttle_m: Floats | None = None) -> Goal:
        """Return a goal in play, looking over the net and a little to the shuttle."""
        away = -float(self._sides.half[self._sides.team[player]])
        heading = np.array([0.0, away])
        if shuttle_m is not None:
            aside = float(np.clip((shuttle_m[0] - place_m[0]) / 4.0, -0.6, 0.6))
            heading = np.array([aside, away])
        return Goal(place_m, 7.0, PLAY_ACCELERATION_MPS2, (float(heading[0]), float(heading[1])), ready=True)

    def _goals_at_rest(self) -> None:
        for player, mover in enumerate(self.script.movers):
            x, y = self._sides.on_half(
                (float(self._random.uniform(-1.2, 1.2)), float(self._random.uniform(2.5, 5.0))),
                self._sides.team[player],
            )
            mover.goal = Goal((x, y), WALK_MPS * float(self._random.uniform(0.5, 0.9)))

    # Pauses

    def _prepare_service(self, serving: int, held_from: float) -> None:
        """Send the players to their places; end at the hit of the service. The server has the shuttle."""
        random = self._random
        server = self._sides.server(serving)
        receiver = self._sides.receiver(serving)
        for player, place in service_places(server, receiver, self._options.doubles).items():
            mover = self.script.movers[player]
            right = self._sides.serves_right(serving)
            x, y = self._sides.on_half((place[0] if right else -place[0], place[1]), self._sides.team[player])
            away = -self._sides.half[self._sides.team[player]]
            mover.goal = Goal((x, y), 2.5 if self._options.quick_service else WALK_MPS, heading=None)
            way = math.dist(mover.place_m, (x, y))
            if way < 0.3:
                mover.goal.heading = (0.0, away)
        self._advance(self._until_arrived(9.0))
        for player, mover in enumerate(self.script.movers):
            assert mover.goal is not None
            mover.goal.heading = (0.0, -float(self._sides.half[self._sides.team[player]]))
            mover.goal.ready = True
        self._advance(max(self._options.waiting_s * float(random.uniform(0.7, 1.3)), 0.8))
        point = self._service_point(server)
        self.script.held.append(Held(held_from, self._time_s, server, point))
        self.script.swings.append(RacketSwing(self._time_s, server, "serve", point))

    def _until_arrived(self, longest_s: float) -> float:
        """Return when all players are about where they go to."""
        slowest = 0.0
        for mover in self.script.movers:
            assert mover.goal is not None
            slowest = max(slowest, math.dist(mover.place_m, mover.goal.place_m) / mover.goal.fastest_mps + 0.6)
        return min(slowest, longest_s)

    def _fetch(self, server: int, shuttle_m: tuple[float, float]) -> float:
        """Send the nearest player to pick the shuttle up and pass it on; return since when the server has it."""
        script = self.script
        half = 1 if shuttle_m[1] > NET_Y_M else -1
        members = self._sides.members[self._sides.half.index(half)]
        fetcher = min(members, key=lambda player: math.dist(script.movers[player].place_m, shuttle_m))
        if server in members:
            fetcher = server
        mover = script.movers[fetcher]
        way = np.array(shuttle_m) - mover.place_m
        stance = np.array(shuttle_m) - 0.35 * way / max(float(np.linalg.norm(way)), 0.4)
        # Nobody walks through the net.
        stance[1] = max(stance[1], NET_Y_M + 0.35) if half > 0 else min(stance[1], NET_Y_M - 0.35)
        heading = (float(way[0]), float(way[1]))
        mover.goal = Goal((float(stance[0]), float(stance[1])), FETCH_MPS)
        self._advance(math.dist(mover.place_m, mover.goal.place_m) / FETCH_MPS + 0.7)
        mover.goal.heading = heading
        self._advance(0.5)
        script.pickups.append((self._time_s, fetcher, shuttle_m))
        picked_s = self._time_s
        self._advance(0.8)
        if fetcher == server:
            return picked_s
        mover.goal.heading = (0.0, -float(half))
        self._advance(0.7)
        x, y = mover.place_m
        start = np.array([x + 0.25 * half, y - 0.45 * half, 0.95])
        target = script.movers[server].place_m
        side = self._sides.half[self._sides.team[server]]
        hand = np.array([target[0] - 0.2 * side, target[1] - 0.35 * side, 1.1])
        if math.dist(start, hand) < 1.5:
            script.held.append(Held(picked_s, self._time_s, fetcher))
            return self._time_s
        flight = soft_pass(start, hand)
        goal = script.movers[server].goal
        assert goal is not None
        goal.place_m, goal.heading = target, (0.0, -float(side))
        point = (float(start[0]), float(start[1]), float(start[2]))
        script.held.append(Held(picked_s, self._time_s, fetcher, point))
        script.swings.append(RacketSwing(self._time_s, fetcher, "pass", point))
        script.passes.append(PlayedHit(self._time_s, fetcher, point, "pass"))
        script.flights.append((self._time_s, flight))
        self._advance(flight.duration_s)
        return self._time_s

    def _change_ends(self) -> None:
        """Walk around the left post to the other half."""
        start_s, script = self._time_s, self.script
        self._goals_at_rest()
        self._advance(1.5)
        stops: list[tuple[float, float]] = []
        for player in range(len(script.movers)):
            aside = -0.9 - 0.7 * self._sides.team[player] - 0.35 * (player % 2)
            stops.append((aside, NET_Y_M))
        for part in (0.6, 0.0, -0.6):
            for player, mover in enumerate(script.movers):
                half = self._sides.half[self._sides.team[player]]
                mover.goal = Goal((stops[player][0], NET_Y_M + half * part * 3), 1.8)
            self._advance(self._until_arrived(8.0) * (0.8 if part else 0.9))
        self._sides.half = self._sides.half[::-1]
        for player, mover in enumerate(script.movers):
            place = ready_places("defence", self._options.doubles)
            member = self._sides.members[self._sides.team[player]].index(player)
            mover.goal = Goal(self._sides.on_half(place[member], self._sides.team[player]), 1.6)
        self._advance(self._until_arrived(8.0))
        script.changes_of_ends_s.append((start_s, self._time_s))

    def _service_point(self, player: int) -> tuple[float, float, float]:
        """Return where the server's racket meets the shuttle: in front of the body, below 1.15 m."""
        mover, half = self.script.movers[player], self._sides.half[self._sides.team[player]]
        aside = 0.15 if mover.right_handed else -0.15
        return mover.place_m[0] + aside * half, mover.place_m[1] - 0.5 * half, 1.0
