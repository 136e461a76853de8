"""Outcomes of mutations, by client session and request: a client sends its mutations again after a reconnect."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from services.gateway.compat.badminton.sync.sync_state import Returned

_MAX_SESSIONS: Final = 1000
_MAX_REQUESTS: Final = 32


class RememberedRequests:
    """Outcomes of the latest successful mutations of the latest sessions.

    A restart forgets them: every mutation has the same effect twice as once.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._sessions: OrderedDict[tuple[str, str], OrderedDict[tuple[int, str], Returned]] = OrderedDict()

    def recall(self, tenant: str, session_id: str, request_id: int, name: str) -> Returned | None:
        """Return the outcome of a mutation that was executed before; None if it is not known."""
        return self._sessions.get((tenant, session_id), OrderedDict()).get((request_id, name))

    def remember(self, tenant: str, session_id: str, request_id: int, name: str, outcome: Returned) -> None:
        """Keep the outcome of a mutation."""
        requests = self._sessions.setdefault((tenant, session_id), OrderedDict())
        self._sessions.move_to_end((tenant, session_id))
        requests[request_id, name] = outcome
        if len(requests) > _MAX_REQUESTS:
            requests.popitem(last=False)
        if len(self._sessions) > _MAX_SESSIONS:
            self._sessions.popitem(last=False)
