"""Check that NATS takes no published password for the user that sends commands, whose password no service knows."""

from __future__ import annotations

from kit.bus.connection import takes_password
from kit.http.server import CannotServeError
from kit.settings import DEVELOPMENT, PLACEHOLDER, NatsSettings, public_reach


async def refuse_published_operator(settings: NatsSettings) -> None:
    """Try the published passwords at NATS, on a server that others reach; NATS must be available.

    Raises:
        CannotServeError: NATS takes one of them: everybody could send commands.
    """
    reach = public_reach()
    if reach is None or not settings.user:
        return
    for password in (DEVELOPMENT, PLACEHOLDER):
        if await takes_password(settings, settings.operator_user, password):
            raise CannotServeError(
                f"NATS_OPERATOR_PASSWORD: NATS takes a published value for {settings.operator_user!r}, the user that "
                f"sends commands, and {reach}: replace it by a long random value"
            )
