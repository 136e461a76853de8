# Generated from async_dead_letters.py by clients/python/generate_sync.py; do not edit.
"""Dead letters for blocking programs: what was given up, for operators."""

from __future__ import annotations

from typing import Any

from saccade_client.api import Api
from saccade_client.request_parts import DEAD_LETTER_PLANS_PATH, DEAD_LETTERS_PATH, path_segment, without_none
from saccade_client.transport import run_blocking


class DeadLettersClient:
    """Events that no handler took, deliveries given up, failed jobs: ``client.dead_letters``.

    The key needs the scope ``operate``. ``choice`` is any of ``tenant``, ``kind``, ``service``, ``type``, ``subject``,
    ``error``, ``group``, ``since`` and ``until``.
    """

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    def page(self, **choice: Any) -> dict[str, Any]:
        """Return a page: ``data``, ``count``, ``by_kind``, ``groups``, ``next_cursor``; also by ``state``."""
        return run_blocking(self._api.call("GET", DEAD_LETTERS_PATH, params=without_none(choice)))

    def get(self, letter_id: str) -> dict[str, Any]:
        """Read a letter with its event, and what was done about it."""
        return run_blocking(self._api.call("GET", f"{DEAD_LETTERS_PATH}/{path_segment(letter_id)}"))

    def redrive(self, letter_id: str, *, why: str) -> dict[str, Any]:
        """Handle an event again, deliver again, or retry a job."""
        path = f"{DEAD_LETTERS_PATH}/{path_segment(letter_id)}/redrive"
        return run_blocking(self._api.call("POST", path, json={"why": why}))

    def discard(self, letter_id: str, *, why: str) -> dict[str, Any]:
        """Set a letter aside; nothing is deleted."""
        path = f"{DEAD_LETTERS_PATH}/{path_segment(letter_id)}/discard"
        return run_blocking(self._api.call("POST", path, json={"why": why}))

    def plan(
        self, action: str, *, why: str, expected_count: int | None = None, dry_run: bool = False, **choice: Any
    ) -> dict[str, Any]:
        """Order ``redrive`` or ``discard`` of all that match; return the plan, or with ``dry_run`` what it is on."""
        body = {"action": action, "why": why, "expected_count": expected_count, "dry_run": dry_run or None} | choice
        return run_blocking(self._api.call("POST", DEAD_LETTER_PLANS_PATH, json=without_none(body)))

    def plan_state(self, plan_id: str) -> dict[str, Any]:
        """Read how far a plan is."""
        return run_blocking(self._api.call("GET", f"{DEAD_LETTER_PLANS_PATH}/{path_segment(plan_id)}"))
