"""Modal accounts that callers brought with their sessions: in memory only, told to the dispatcher that launches."""

from __future__ import annotations

import logging

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from pydantic import ValidationError

from contracts.caller_account import CallerAccount, CallerAccountRequest, account_subject
from kit.auth.sealed_box import seal

log = logging.getLogger(__name__)


class CallerAccounts:
    """Accounts by job. Each is answered for on a subject of its own, so that nobody answers where none is known."""

    def __init__(self, client: Client) -> None:
        """Answer requests on this connection."""
        self._client = client
        self._held: dict[str, Subscription] = {}

    async def hold(self, job_id: str, account: CallerAccount) -> None:
        """Keep the account of a job, and answer requests for it, until it is released."""

        async def on_request(message: Msg) -> None:
            try:
                request = CallerAccountRequest.model_validate_json(message.data)
            except ValidationError:
                log.warning("an unreadable request for the Modal account of %s", job_id)
                return
            await message.respond(seal(request.public_key, account.plain()))

        self._held[job_id] = await self._client.subscribe(account_subject(job_id), cb=on_request)
        await self._client.flush()

    async def release(self, job_id: str) -> None:
        """Forget the account of a job."""
        if held := self._held.pop(job_id, None):
            try:
                await held.unsubscribe()
            except NatsError:
                log.debug("the connection was closed with the account of %s", job_id)
