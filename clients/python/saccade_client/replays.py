# Generated from async_replays.py by clients/python/generate_sync.py; do not edit.
"""Replays for blocking programs: events of the past, sent again to one target at a pace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from saccade_client.api import Api, PageIterator
from saccade_client.replay_stream import ReplayedEvent, ReplayStream
from saccade_client.replay_view import ReplayView
from saccade_client.request_parts import REPLAYS_PATH, Since, format_moment, replay_path, without_none
from saccade_client.transport import iterate, run_blocking


class ReplaysClient:
    """The tenant's replays: ``client.replays``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    def plan(
        self,
        into: str,
        since: Since,
        *,
        until: Since | None = None,
        types: Sequence[str] = (),
        subjects: Sequence[str] = (),
        tenants: Sequence[str] = (),
        speed: str = "1x",
        max_gap_s: float | None = None,
        rate_per_s: float | None = None,
        as_new: bool = False,
        why: str = "",
    ) -> ReplayView:
        """Count what a replay into ``sse``, ``file``, ``webhook:whk_…`` or ``sandbox:NAME`` would send; send nothing.

        The window ends now, or at ``until``, and does not grow. ``speed`` is ``1x``, ``4x`` or ``max``, with waits of
        at most ``max_gap_s`` seconds and at most ``rate_per_s`` events a second.
        """
        named: dict[str, Any] = {
            "into": into,
            "since": format_moment(since),
            "until": format_moment(until),
            "speed": speed,
        }
        named |= {"max_gap_s": max_gap_s, "rate_per_s": rate_per_s, "why": why}
        lists = {"types": list(types), "subjects": list(subjects), "tenants": list(tenants)}
        body = without_none(named) | lists | ({"as_new": True} if as_new else {})
        return run_blocking(self._api.post(ReplayView, REPLAYS_PATH, json=body))

    def start(self, replay_id: str, expected_count: int, *, why: str = "") -> ReplayView:
        """Start a planned replay, if it has as many events as expected."""
        body = {"expected_count": expected_count, "why": why}
        return run_blocking(self._api.post(ReplayView, replay_path(replay_id, "start"), json=body))

    def pause(self, replay_id: str, *, why: str = "") -> ReplayView:
        """Send nothing more until it is resumed."""
        return run_blocking(self._api.post(ReplayView, replay_path(replay_id, "pause"), json={"why": why}))

    def resume(self, replay_id: str, *, why: str = "") -> ReplayView:
        """Go on after the last event that was sent."""
        return run_blocking(self._api.post(ReplayView, replay_path(replay_id, "resume"), json={"why": why}))

    def cancel(self, replay_id: str, *, why: str = "") -> ReplayView:
        """End a replay before its last event."""
        return run_blocking(self._api.post(ReplayView, replay_path(replay_id, "cancel"), json={"why": why}))

    def get(self, replay_id: str) -> ReplayView:
        """Read a replay with its plan and its progress."""
        return run_blocking(self._api.get(ReplayView, replay_path(replay_id)))

    def all(self, *, state: str | None = None) -> Iterator[ReplayView]:
        """Iterate over the replays of the last 90 days, newest first."""
        return iterate(PageIterator(self._api, ReplayView, REPLAYS_PATH, {"state": state}))

    def stream(self, replay_id: str, *, last_id: str | None = None) -> ReplayedEvents:
        """Iterate over the events of a replay into ``sse`` or ``file`` as they are due, over any disconnect."""
        return ReplayedEvents(self._api.replay_stream(replay_id, last_id))


class ReplayedEvents(Iterator[ReplayedEvent]):
    """Iterator over a replay's events; pass ``last_id`` to a later call to resume after the last one."""

    def __init__(self, stream: ReplayStream) -> None:
        """Iterate over ``stream``; it connects when the first event is requested."""
        self._stream = stream
        self._events = iterate(stream)

    def __next__(self) -> ReplayedEvent:
        """Return the next event when it comes."""
        return next(self._events)

    @property
    def last_id(self) -> str | None:
        """Id of the newest event that was returned."""
        return self._stream.last_id

    @property
    def state(self) -> str | None:
        """How the replay ended, such as ``completed``; None before its end."""
        return self._stream.state

    def close(self) -> None:
        """Close the stream; leaving the loop does so too."""
        self._events.close()
