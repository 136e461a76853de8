"""Messages to Poke: https://poke.com/docs/developers/api, and the API before it, which old keys belong to."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from kit.network.guarded_post import GuardedPost, PostError

_NEW_API: Final = "https://poke.com/api/v1/inbound/api-message"
_OLD_API: Final = "https://poke.com/api/v1/inbound-sms/webhook"
_OLD_KEY: Final = "pk_"


class PokeError(Exception):
    """Poke did not accept a message; the message of the error says why, without the key."""


def api_of(api_key: str) -> str:
    """Return the URL of the API that a key is for."""
    return _OLD_API if api_key.startswith(_OLD_KEY) else _NEW_API


class Poke:
    """Sends messages with the caller's key, which is kept nowhere."""

    def __init__(self, post: GuardedPost, url: str | None) -> None:
        """Send to ``url``; None: to the API that a key is for."""
        self._post, self._url = post, url

    async def send(self, message: str, api_key: str) -> dict[str, Any]:
        """Send a message and return Poke's answer.

        Raises:
            PokeError: it was not accepted.
        """
        url = self._url or api_of(api_key)
        try:
            answer = await self._post.send(url, {"message": message}, {"Authorization": f"Bearer {api_key}"})
        except PostError as error:
            raise PokeError(str(error)) from None
        host = urlsplit(url).hostname
        if not 200 <= answer.status < 300:
            raise PokeError(f"{host} answered with the status {answer.status}")
        try:
            found = json.loads(answer.body)
            json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise PokeError(f"{host} did not answer with a JSON object")
        return found
