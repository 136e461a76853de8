"""One sync WebSocket of a Convex client: executes its calls in order and sends it what changes in its queries.

Nothing is queued for a client: after a change its queries are evaluated anew, and what differs from what it has is
sent. A client that reads slowly gets fewer, newer values.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.limits import KIB
from kit.auth.quotas import Quotas
from kit.tasks import end
from services.gateway.compat.badminton.sync.functions import Caller, Functions
from services.gateway.compat.badminton.sync.messages import (
    Authenticate,
    ClientMessage,
    Connect,
    FunctionCall,
    ModifyQuerySet,
    ProtocolViolation,
    arguments,
    function_name,
    parse_message,
)
from services.gateway.compat.badminton.sync.remembered_requests import RememberedRequests
from services.gateway.compat.badminton.sync.sync_state import Outcome, Returned, SyncState
from services.gateway.compat.badminton.videos.video_changes import VideoChanges
from services.gateway.fair_slots import FairSlots
from services.gateway.message_turns import MessageTurns

log = logging.getLogger(__name__)

#: Largest message of a client; the page's have a few hundred bytes.
_MESSAGE_BYTES: Final = 64 * KIB
#: Received messages that wait; then the socket is not read until the first was handled.
_WAITING_MESSAGES: Final = 64
#: The client reconnects after 60 s of silence.
PING_S: Final = 15.0
#: Shortest time between two transitions that the client did not ask for.
_PUSH_INTERVAL_S: Final = 0.2
#: Pause before queries are evaluated anew whose outcome was not known.
_RETRY_S: Final = 2.0
_SEND_TIMEOUT_S: Final = 20.0
#: Close codes: RFC 6455, section 7.4.1.
_POLICY: Final = 1008


class SyncSocket:
    """Both directions of an accepted socket, until it closes."""

    def __init__(
        self,
        socket: WebSocket,
        caller: Caller,
        *,
        functions: Functions,
        changes: VideoChanges,
        remembered: RememberedRequests,
        slots: FairSlots,
        quotas: Quotas,
    ) -> None:
        """Serve an accepted socket on behalf of ``caller``; ``slots`` are those of the queries of all sockets."""
        # Its protocol has no message that would tell the client.
        self._turns = MessageTurns(quotas, caller.tenant, lambda reason: log.info("a sync socket waits: %s", reason))
        self._socket, self._caller, self._slots = socket, caller, slots
        self._functions, self._changes, self._remembered = functions, changes, remembered
        self._state = SyncState()
        self._received: asyncio.Queue[ClientMessage] = asyncio.Queue(_WAITING_MESSAGES)
        #: Set when a message was received or a query may have another outcome.
        self._wake, self._changed = asyncio.Event(), asyncio.Event()
        self._topics: frozenset[str] = frozenset()
        self._sent_at_s = self._pushed_at_s = time.monotonic()

    async def run(self) -> None:
        """Serve until the client disconnects, reads nothing, or breaks the protocol."""
        receiving = asyncio.ensure_future(self._receive_all())
        serving = asyncio.ensure_future(self._serve())
        try:
            await asyncio.wait([receiving, serving], return_when=asyncio.FIRST_COMPLETED)
            for task in (receiving, serving):
                if task.done():
                    task.result()
        except ProtocolViolation as violation:
            await self._refuse(str(violation))
        except (WebSocketDisconnect, TimeoutError):
            log.debug("a sync socket was closed")
        finally:
            self._changes.unwatch(self._topics, self._changed)
            await end(receiving, serving)

    # -- receiving

    async def _receive_all(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            await self._turns.next(message.get("bytes") or message.get("text") or "")
            text = message.get("text")
            if text is None or len(text) > _MESSAGE_BYTES:
                raise ProtocolViolation(f"a message is no text, or has more than {_MESSAGE_BYTES} characters")
            await self._received.put(parse_message(text))
            self._wake.set()

    # -- serving

    async def _serve(self) -> None:
        watching = asyncio.ensure_future(self._relay_changes())
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._sent_at_s + PING_S - time.monotonic())):
                        await self._wake.wait()
                self._wake.clear()
                while not self._received.empty():
                    await self._handle(self._received.get_nowait())
                if self._state.session_id is not None:
                    await self._send_transition()
                if time.monotonic() - self._sent_at_s >= PING_S:
                    await self._send({"type": "Ping"})
        finally:
            await end(watching)

    async def _relay_changes(self) -> None:
        """Wake the server after a change, but not more often than the interval."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(max(0.0, self._pushed_at_s + _PUSH_INTERVAL_S - time.monotonic()))
            self._changed.clear()
            self._pushed_at_s = time.monotonic()
            self._wake.set()

    async def _handle(self, message: ClientMessage) -> None:
        match message:
            case Connect():
                self._state.connect(message, time.time_ns())
            case ModifyQuerySet():
                self._state.modify(message)
                self._watch()
            case Authenticate():
                self._state.authenticate(message)
            case FunctionCall():
                outcome = await self._call(message)
                await self._send(self._state.respond(message, outcome, time.time_ns()))
                # The client completes a mutation by a transition, which also shows what the call has changed.
                await self._send_transition()

    async def _call(self, call: FunctionCall) -> Outcome:
        name, session_id = function_name(call.udf_path), self._state.session_id or ""
        known = (self._caller.tenant, session_id, call.request_id, name)
        if call.type == "Mutation" and (before := self._remembered.recall(*known)):
            return before
        outcome = await self._functions.call(self._caller, call.type, name, arguments(call.args))
        if call.type == "Mutation" and isinstance(outcome, Returned):
            self._remembered.remember(*known, outcome)
        if video_id := arguments(call.args).get("videoId"):
            self._changes.notify(self._caller.tenant, str(video_id))
        return outcome

    def _watch(self) -> None:
        """Watch the topics of the queries that the client follows now."""
        topics = frozenset[str]().union(
            *(self._functions.topics(self._caller, query) for query in self._state.queries.values())
        )
        self._changes.watch(topics - self._topics, self._changed)
        self._changes.unwatch(self._topics - topics, self._changed)
        self._topics = topics

    async def _send_transition(self) -> None:
        outcomes: dict[int, Outcome | None] = {}
        for query_id, query in self._state.queries.items():
            async with self._slots.slot(self._caller.tenant):
                outcomes[query_id] = await self._functions.query(self._caller, query)
            await asyncio.sleep(0)  # let others run: what a query needs is mostly in memory
        if None in outcomes.values():
            asyncio.get_running_loop().call_later(_RETRY_S, self._changed.set)
        if transition := self._state.transition(outcomes, time.time_ns()):
            await self._send(transition)

    async def _send(self, message: dict[str, Any]) -> None:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await self._socket.send_text(json.dumps(message, allow_nan=False))
        self._sent_at_s = time.monotonic()

    async def _refuse(self, reason: str) -> None:
        """Close the socket; a client that only lost its place begins anew when it reconnects."""
        log.info("a sync socket was closed: %s", reason)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._socket.close(_POLICY, reason.encode()[:120].decode(errors="ignore"))
