"""A WebSocket whose key is removed is closed with 1008, whatever its client does; another one is left as it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocket

from kit.auth import revocation
from kit.auth.api_keys import Authenticator, AuthSettings, Principal
from kit.auth.revocation import serve_until_revoked

pytestmark = pytest.mark.anyio
CLOSED = [{"type": "websocket.close", "code": 1008, "reason": "unauthenticated"}]


class Caller:
    """A caller with a key, and its accepted socket over a connection that the test plays."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "keys.json"
        self._write("acme")
        self.authenticator = Authenticator(AuthSettings(api_keys_file=self._file))
        principal = self.authenticator.principal("acme")
        assert principal is not None
        self.principal: Principal = principal
        self.sent: list[Any] = []

    def _write(self, *ids: str) -> None:
        digest = hashlib.sha256(b"secret").hexdigest()
        entries = [{"id": key_id, "sha256": digest, "tenant": key_id, "scopes": ["read"]} for key_id in ids]
        self._file.write_text(json.dumps(entries))

    def remove_key(self) -> None:
        self._write()

    async def socket(self, send: Callable[[Any], Awaitable[None]] | None = None) -> WebSocket:
        """Return an accepted socket; ``send`` takes what is sent then."""

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def keep(message: Any) -> None:
            if message["type"] != "websocket.accept":
                await (send(message) if send else asyncio.sleep(0))
                self.sent.append(message)

        socket = WebSocket({"type": "websocket", "headers": [], "path": "/"}, receive, keep)
        await socket.accept()
        return socket


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


async def serve(caller: Caller, socket: WebSocket, *, ended: asyncio.Event | None = None) -> None:
    """Serve until the key is removed, which is done when all is running."""

    async def serving() -> None:
        caller.remove_key()
        try:
            await asyncio.Event().wait()
        finally:
            if ended is not None:
                ended.set()

    await serve_until_revoked(caller.authenticator, caller.principal, socket, serving())


async def test_what_ends_by_itself_is_not_closed_as_unauthenticated(caller: Caller) -> None:
    """A client that reads too slowly, for example, whose key is what it was."""
    socket = await caller.socket()
    await serve_until_revoked(caller.authenticator, caller.principal, socket, asyncio.sleep(0))
    assert caller.sent == []


async def test_a_removed_key_ends_serving_and_closes(caller: Caller) -> None:
    ended = asyncio.Event()
    await serve(caller, await caller.socket(), ended=ended)
    assert ended.is_set()
    assert caller.sent == CLOSED


async def test_what_was_closed_is_not_closed_again(caller: Caller) -> None:
    socket = await caller.socket()

    async def serving() -> None:
        await socket.close(1000)
        caller.remove_key()

    await serve_until_revoked(caller.authenticator, caller.principal, socket, serving())
    assert [message["code"] for message in caller.sent] == [1000]


async def test_a_client_that_is_gone_is_no_error(caller: Caller) -> None:
    async def fail(_: Any) -> None:
        raise ConnectionResetError

    await serve(caller, await caller.socket(fail))
    assert caller.sent == []


async def test_a_client_that_reads_nothing_does_not_keep_the_connection(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "_CLOSE_TIMEOUT_S", 0.01)

    async def wait(_: Any) -> None:
        await asyncio.Event().wait()

    await serve(caller, await caller.socket(wait))
    assert caller.sent == []
