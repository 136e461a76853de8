"""Places for connections of old vision clients: one tenant cannot take all of them, and none is lost."""

from __future__ import annotations

from contextlib import ExitStack

from services.gateway.compat.vision.connection_places import ConnectionPlaces


def test_a_tenant_leaves_places_to_the_others() -> None:
    places = ConnectionPlaces()
    with ExitStack() as crowd, ExitStack() as few:
        assert [crowd.enter_context(places.place("acme")) for _ in range(70)] == [True] * 48 + [False] * 22
        assert [few.enter_context(places.place(tenant)) for tenant in ("ann", "bob") * 10] == [True] * 16 + [False] * 4
    with ExitStack() as after:
        assert all(after.enter_context(places.place("acme")) for _ in range(48))
        assert after.enter_context(places.place("ann"))
