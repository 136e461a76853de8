"""State of one connection of a Convex client: its queries, what it was sent of them, and the versions. Pure.

A client takes a transition only if it starts at the version that the last one ended with, and completes a mutation
only by a transition after the response whose timestamp is not smaller.
Source: the package ``convex`` 1.31.7, src/browser/sync (remote_query_set.ts, request_manager.ts).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.gateway.compat.badminton.sync.messages import (
    AddQuery,
    Authenticate,
    Connect,
    FunctionCall,
    ModifyQuerySet,
    ProtocolViolation,
    arguments,
    decode_timestamp,
    encode_timestamp,
    function_name,
)

#: Queries that one connection may follow; the page follows two.
_MAX_QUERIES: Final = 100
_MAX_ERROR_CHARS: Final = 500
#: A client's clock may be ahead of ours by this much, nanoseconds: no timestamp near the end of 64 bits is adopted.
_MAX_AHEAD_NS: Final = 366 * 24 * 3600 * 1_000_000_000


@dataclass(frozen=True)
class Query:
    """A query that a client follows."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Returned:
    """Value that a function returned."""

    value: Any


@dataclass(frozen=True)
class Failed:
    """Message of a function that failed."""

    message: str


Outcome = Returned | Failed


class SyncState:
    """Versions and queries of one connection. Times are nanoseconds since 1970; the caller reads the clock."""

    def __init__(self) -> None:
        """Start at version 0."""
        self.session_id: str | None = None
        self.queries: dict[int, Query] = {}
        self._timestamp = self._query_set = self._identity = 0
        self._next_query_set = self._next_identity = 0
        #: The next transition ends at this time or later, and is sent even if nothing has changed when it is owed.
        self._earliest = 0
        self._owed = False
        #: By query: digest of the modification that the client was sent last.
        self._sent: dict[int, bytes] = {}
        self._removed: list[int] = []

    def connect(self, message: Connect, now_ns: int) -> None:
        """Begin; timestamps continue after those that the client has seen on other connections.

        Raises:
            ProtocolViolation: it has connected already, or its timestamp is none.
        """
        if self.session_id is not None:
            raise ProtocolViolation("Connect was sent twice")
        self.session_id = message.session_id
        if message.max_observed_timestamp:
            observed = decode_timestamp(message.max_observed_timestamp)
            self._earliest = observed + 1 if observed < now_ns + _MAX_AHEAD_NS else 0

    def modify(self, message: ModifyQuerySet) -> None:
        """Add and remove queries.

        Raises:
            ProtocolViolation: the change is based on another version, or there are too many queries.
        """
        self._check_connected()
        if message.base_version != self._next_query_set or message.new_version <= message.base_version:
            raise ProtocolViolation(
                f"ModifyQuerySet from {message.base_version} to {message.new_version} at {self._next_query_set}"
            )
        for change in message.modifications:
            if isinstance(change, AddQuery):
                self.queries[change.query_id] = Query(function_name(change.udf_path), arguments(change.args))
                self._sent.pop(change.query_id, None)
            elif self.queries.pop(change.query_id, None) and change.query_id in self._sent:
                del self._sent[change.query_id]
                self._removed.append(change.query_id)
        if len(self.queries) > _MAX_QUERIES:
            raise ProtocolViolation(f"a connection may follow at most {_MAX_QUERIES} queries")
        self._next_query_set = message.new_version

    def authenticate(self, message: Authenticate) -> None:
        """Confirm a change of the identity with the next transition.

        Raises:
            ProtocolViolation: the change is based on another version.
        """
        self._check_connected()
        if message.base_version != self._next_identity:
            raise ProtocolViolation(f"Authenticate from {message.base_version} at {self._next_identity}")
        self._next_identity += 1

    def respond(self, call: FunctionCall, outcome: Outcome, now_ns: int) -> dict[str, Any]:
        """Return the response to a call; after a mutation, the next transition is not earlier than the response.

        Raises:
            ProtocolViolation: the client has not connected.
        """
        self._check_connected()
        response: dict[str, Any] = {"type": f"{call.type}Response", "requestId": call.request_id, "logLines": []}
        if isinstance(outcome, Failed):
            return {**response, "success": False, "result": outcome.message[:_MAX_ERROR_CHARS]}
        response |= {"success": True, "result": outcome.value}
        if call.type == "Mutation":
            self._earliest, self._owed = self._next_timestamp(now_ns), True
            response["ts"] = encode_timestamp(self._earliest)
        return response

    def transition(self, outcomes: Mapping[int, Outcome | None], now_ns: int) -> dict[str, Any] | None:
        """Return the message with what has changed, given the outcome of every query; None if nothing has.

        The outcome is None where it is not known at the moment: the client keeps what it has.
        """
        changed = [{"type": "QueryRemoved", "queryId": query_id} for query_id in self._removed]
        self._removed.clear()
        for query_id in self.queries:
            outcome = outcomes[query_id]
            if outcome is None:
                continue
            change = _modification(query_id, outcome)
            digest = hashlib.sha256(json.dumps(change).encode()).digest()
            if self._sent.get(query_id) != digest:
                self._sent[query_id] = digest
                changed.append(change)
        versions = self._next_query_set, self._next_identity
        if not changed and not self._owed and versions == (self._query_set, self._identity):
            return None
        start = self._version()
        self._timestamp = self._next_timestamp(now_ns)
        self._query_set, self._identity = versions
        self._owed = False
        return {"type": "Transition", "startVersion": start, "endVersion": self._version(), "modifications": changed}

    def _version(self) -> dict[str, Any]:
        timestamp = encode_timestamp(self._timestamp)
        return {"querySet": self._query_set, "identity": self._identity, "ts": timestamp}

    def _next_timestamp(self, now_ns: int) -> int:
        return max(now_ns, self._timestamp + 1, self._earliest)

    def _check_connected(self) -> None:
        if self.session_id is None:
            raise ProtocolViolation("the first message is not Connect")


def _modification(query_id: int, outcome: Outcome) -> dict[str, Any]:
    change: dict[str, Any] = {"queryId": query_id, "logLines": [], "journal": None}
    if isinstance(outcome, Failed):
        return {"type": "QueryFailed", **change, "errorMessage": outcome.message[:_MAX_ERROR_CHARS]}
    return {"type": "QueryUpdated", **change, "value": outcome.value}
