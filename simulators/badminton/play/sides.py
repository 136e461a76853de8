"""Teams: who belongs to them, their halves and points, and who serves to whom."""

from __future__ import annotations

from modal_workers.badminton.court.dimensions import CENTRE_X_M, NET_Y_M


class Sides:
    """Both teams; team 0 begins on the far half."""

    def __init__(self, doubles: bool) -> None:
        """Place the teams at the beginning of a match."""
        count = 4 if doubles else 2
        #: Team of each player, and the players of each team.
        self.team = [player * 2 // count for player in range(count)]
        self.members = [[player for player in range(count) if self.team[player] == team] for team in (0, 1)]
        #: Half of each team: +1 near the camera, -1 far.
        self.half = [-1, 1]
        #: In doubles: who of a team stands in the right service court, the first or the second member.
        self.right = [0, 0]
        self.score = [0, 0]

    def on_half(self, place_m: tuple[float, float], team: int) -> tuple[float, float]:
        """Return the place on the court of (metres to the right of the centre, metres behind the net) for a team."""
        half = self.half[team]
        return CENTRE_X_M + half * place_m[0], NET_Y_M + half * place_m[1]

    def serves_right(self, serving: int) -> bool:
        """Return whether a team serves from its right service court."""
        return self.score[serving] % 2 == 0

    def service_to_right(self, serving: int) -> bool:
        """Return whether the service court that is served to is on the right of the picture."""
        return self.serves_right(serving) == (self.half[1 - serving] > 0)

    def server(self, serving: int) -> int:
        """Return the player who serves."""
        return self._in_court(serving, right=self.serves_right(serving))

    def receiver(self, serving: int) -> int:
        """Return the player who is served to."""
        return self._in_court(1 - serving, right=self.serves_right(serving))

    def _in_court(self, team: int, *, right: bool) -> int:
        members = self.members[team]
        return members[self.right[team] ^ (not right)] if len(members) == 2 else members[0]
