"""Places of the players' rackets in the picture: who could have touched the shuttle at a place and time."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks

Floats = NDArray[np.float64]

#: COCO's numbers of the wrists, and from which confidence a wrist is used.
_WRISTS: Final = (9, 10)
_WRIST_CONFIDENCE: Final = 0.3
#: A player not detected in a frame is looked for in the frames around it, up to this far.
_NEAR_FRAMES_S: Final = 0.12
#: Height of a player that a box shows, in metres; a bent player is lower and a stretched arm higher.
BOX_HEIGHT_M: Final = 1.7
#: A contact is this far from the wrist or the box, as a share of the box's height: mean reach and its spread.
_REACH: Final = 0.35
_REACH_SPREAD: Final = 0.2


class RacketReach:
    """Answers how well a place in the picture fits a contact by each player."""

    def __init__(self, players: PlayerTracks, times_s: Floats) -> None:
        self._players = players
        step = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
        self._near = max(1, round(_NEAR_FRAMES_S / max(step, 1e-6)))
        self._last = len(times_s) - 1

    @property
    def player_count(self) -> int:
        """Number of players."""
        return self._players.player_count

    def sides(self, frame: int) -> list[int]:
        """Return each player's half: -1 far, 1 near, 0 unknown."""
        return [self._side(player, frame) for player in range(self.player_count)]

    def distances(self, place_px: Floats, frame: int) -> Floats:
        """Return each player's distance from a place as a share of the player's height; infinite if not seen."""
        found = np.full(self.player_count, np.inf)
        for player in range(self.player_count):
            seen = self._seen(player, frame)
            if seen is not None:
                found[player] = self._distance(player, seen, place_px)
        return found

    def places_m(self, frame: int) -> Floats:
        """Return each player's place on the floor [P, 2]; NaN if it is not known."""
        return self._players.position_m[:, frame].astype(float)

    def pixels_per_metre(self, frame: int) -> Floats:
        """Return the scale of the picture at each player; NaN if not seen."""
        frames = [self._seen(player, frame) for player in range(self.player_count)]
        boxes = self._players.boxes_px
        return np.array(
            [
                np.nan if seen is None else float(boxes[player, seen, 3] - boxes[player, seen, 1]) / BOX_HEIGHT_M
                for player, seen in enumerate(frames)
            ]
        )

    def _seen(self, player: int, frame: int) -> int | None:
        """Return the frame nearest to one in which a player has a box."""
        low, high = max(0, frame - self._near), min(self._last, frame + self._near)
        frames = np.arange(low, high + 1)
        frames = frames[np.isfinite(self._players.boxes_px[player, frames]).all(1)]
        return int(frames[np.abs(frames - frame).argmin()]) if len(frames) else None

    def _side(self, player: int, frame: int) -> int:
        side = int(self._players.side[player, frame])
        if side == 0:
            low, high = max(0, frame - 3 * self._near), min(self._last, frame + 3 * self._near)
            side = int(np.sign(self._players.side[player, low : high + 1].astype(int).sum()))
        return side

    def _distance(self, player: int, frame: int, place_px: Floats) -> float:
        left, top, right, bottom = (float(edge) for edge in self._players.boxes_px[player, frame])
        height = max(bottom - top, 1.0)
        x, y = (float(value) for value in place_px)
        outside = (max(left - x, x - right, 0.0), max(top - y, y - bottom, 0.0))
        distance = math.hypot(*outside) / height
        wrists = self._players.keypoints_px[player, frame, _WRISTS, :]
        sure = wrists[:, 2] >= _WRIST_CONFIDENCE
        if sure.any():
            distance = float(np.hypot(*(wrists[sure, :2] - place_px).T).min()) / height
        return distance


def reach_likelihood(distance: Floats) -> Floats:
    """Return how likely a contact at a distance is, relative to the likeliest."""
    excess = np.maximum(0.0, distance - _REACH) / _REACH_SPREAD
    return np.asarray(np.exp(-0.5 * np.minimum(excess, 12.0) ** 2))
