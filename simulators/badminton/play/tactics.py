"""Places of players: bases in play, and at the service."""

from __future__ import annotations

from typing import Literal

Formation = Literal["attack", "defence"]
Place = tuple[float, float]


def ready_places(formation: Formation, doubles: bool) -> tuple[Place, ...]:
    """Return the places of a team's members: metres to the right of the centre line, metres behind the net."""
    if not doubles:
        # After an attack the answer is often short.
        return ((0.0, 3.2),) if formation == "attack" else ((0.0, 3.8),)
    return ((0.0, 2.2), (0.0, 4.9)) if formation == "attack" else ((-1.5, 3.9), (1.5, 3.9))


def service_places(server: int, receiver: int, doubles: bool) -> dict[int, Place]:
    """Return where each player stands when the service is from the right: as in ``ready_places``."""
    if not doubles:
        return {server: (0.8, 2.9), receiver: (1.2, 3.5)}
    # Players 0 and 1, and 2 and 3, are partners.
    return {server: (0.6, 2.4), server ^ 1: (-0.2, 4.4), receiver: (1.3, 2.9), receiver ^ 1: (-1.1, 4.6)}
