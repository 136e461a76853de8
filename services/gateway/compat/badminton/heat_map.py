"""Heat maps in the size that a page asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: Size in which the worker writes it.
WIDTH: Final = 64
HEIGHT: Final = 48

_Grid = Sequence[Sequence[float]]


def resized_heat_map(found: Mapping[str, Any], width: int, height: int, player: str | None) -> dict[str, Any]:
    """Return a heat map with grids of another size; with a player, only that player's."""
    players = {
        name: resized(grid, width, height)
        for name, grid in found["player_heatmaps"].items()
        if player is None or name == player
    }
    combined = players[player] if player is not None else resized(found["combined_heatmap"], width, height)
    return {**found, "width": width, "height": height, "combined_heatmap": combined, "player_heatmaps": players}


def resized(grid: _Grid, width: int, height: int) -> list[list[int]]:
    """Return a grid in another size, interpolated between the centres of its cells; values stay in 0..255."""
    columns = [_between(x, width, len(grid[0])) for x in range(width)]
    rows = [_between(y, height, len(grid)) for y in range(height)]
    return [
        [
            round(
                (grid[top][left] * (1 - right_share) + grid[top][right] * right_share) * (1 - bottom_share)
                + (grid[bottom][left] * (1 - right_share) + grid[bottom][right] * right_share) * bottom_share
            )
            for left, right, right_share in columns
        ]
        for top, bottom, bottom_share in rows
    ]


def _between(index: int, size: int, given: int) -> tuple[int, int, float]:
    """Return the two given cells whose centres enclose the centre of a new cell, and the share of the second."""
    place = min(max((index + 0.5) * given / size - 0.5, 0.0), given - 1.0)
    first = int(place)
    return first, min(first + 1, given - 1), place - first
