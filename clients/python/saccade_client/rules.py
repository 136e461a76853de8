# Generated from async_rules.py by clients/python/generate_sync.py; do not edit.
"""Upload rules for blocking programs: which uploads start which jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from saccade_client.api import Api, PageIterator
from saccade_client.request_parts import RULES_PATH, format_moment, path_segment, without_none
from saccade_client.transport import iterate, run_blocking
from saccade_client.views import RuleTrialView, RuleView


class RulesClient:
    """The tenant's upload rules: ``client.rules``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    def create(
        self,
        name: str,
        workload: str,
        *,
        match: Mapping[str, Any] | None = None,
        group: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> RuleView:
        """Create a rule: each upload that is completed from now on and matches starts a job of the workload.

        ``match`` has ``media``, ``filename`` and ``metadata`` (shell patterns), ``minimum_bytes`` and
        ``maximum_bytes``. ``group`` collects several uploads into one job: ``by`` (``metadata.lap``), ``needs`` or
        ``quiet_s``, ``minimum``, ``order``. ``options`` are ``enabled``, ``priority``, ``max_cost_usd``, ``gpu``,
        ``metadata``, ``webhook_url`` and ``jobs_per_day``.
        """
        body = _body(name=name, workload=workload, match=match, group=group, inputs=inputs, params=params, **options)
        return run_blocking(self._api.post(RuleView, RULES_PATH, json=body, key=idempotency_key))

    def check(
        self,
        name: str,
        workload: str,
        *,
        match: Mapping[str, Any] | None = None,
        group: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        params: Mapping[str, Any] | None = None,
        since: str | datetime | None = None,
        limit: int | None = None,
        **options: Any,
    ) -> RuleTrialView:
        """Return what a rule would have done with past uploads; nothing is stored.

        The newest ``limit`` completed uploads are looked at, of those since a time if ``since`` is given.
        """
        body = _body(name=name, workload=workload, match=match, group=group, inputs=inputs, params=params, **options)
        return run_blocking(self._api.post(RuleTrialView, RULES_PATH, json=body, params=_dry(since, limit)))

    def all(self, *, page_size: int | None = None) -> Iterator[RuleView]:
        """Iterate over the rules, newest first, page by page."""
        return iterate(PageIterator(self._api, RuleView, RULES_PATH, {"limit": page_size}))

    def get(self, rule_id: str) -> RuleView:
        """Read a rule."""
        return run_blocking(self._api.get(RuleView, _path(rule_id)))

    def change(self, rule_id: str, **changes: Any) -> RuleView:
        """Change what ``create`` takes; other fields stay."""
        return run_blocking(self._api.patch(RuleView, _path(rule_id), changes))

    def check_change(
        self, rule_id: str, *, since: str | datetime | None = None, limit: int | None = None, **changes: Any
    ) -> RuleTrialView:
        """Return what a rule, with changes if any are given, would have done with past uploads."""
        return run_blocking(self._api.patch(RuleTrialView, _path(rule_id), changes, params=_dry(since, limit)))

    def delete(self, rule_id: str) -> None:
        """Delete a rule; its jobs stay."""
        run_blocking(self._api.delete(_path(rule_id)))


def _path(rule_id: str) -> str:
    return f"{RULES_PATH}/{path_segment(rule_id)}"


def _dry(since: str | datetime | None, limit: int | None) -> dict[str, Any]:
    return {"dry_run": "true"} | without_none({"since": format_moment(since), "limit": limit})


def _body(**fields: Any) -> dict[str, Any]:
    """Return the body that creates a rule."""
    return without_none(fields | {"inputs": list(fields["inputs"]) or None})
