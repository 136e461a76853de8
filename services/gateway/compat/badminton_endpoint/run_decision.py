"""Decision whether a request for a video starts a run. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, Final

from contracts.callback import Callback
from contracts.job import State


class Decision(Enum):
    """Effect of a request."""

    #: Start a run: there is none, it has failed, or it was another request.
    NEW = auto()
    #: Nothing, besides an attempt now where the notifier waits for the time of the next one: the run goes on.
    CONTINUE = auto()
    #: Deliver the results again: the site has reset the video's status before it sent the request.
    DELIVER_AGAIN = auto()


#: Changes of a record whose delivery begins again; what is stored at the site is kept.
BEGIN_AGAIN: Final[dict[str, Any]] = {
    "attempts": 0,
    "due": None,
    "last_error": None,
    "undeliverable": None,
    "outcome": None,
}


def decide(record: Callback | None, fingerprint: str, state: State | None, *, fetch_failed: bool) -> Decision:
    """Return what a request does, given the record of its video and the state of that run's job.

    ``state`` is None before the job is submitted, which it never is if the fetch of the video has failed.
    """
    if record is None or record.fingerprint != fingerprint:
        return Decision.NEW
    if fetch_failed or state in (State.FAILED, State.CANCELLED):
        return Decision.NEW
    if record.outcome is None:
        return Decision.CONTINUE
    return Decision.NEW if state is None else Decision.DELIVER_AGAIN
