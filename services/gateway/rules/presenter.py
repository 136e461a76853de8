"""Representation of rules in HTTP answers."""

from __future__ import annotations

from datetime import UTC, datetime

from contracts.rule import Rule
from services.gateway.aggregates.view import GatewayView
from services.gateway.rules.schemas import RuleLinks, RuleObject, SkippedObject


class RulePresenter:
    """Builds rule objects from rules and the jobs that they have submitted."""

    def __init__(self, view: GatewayView) -> None:
        """Read the jobs from ``view``."""
        self._rows = view.rules

    def full(self, rule: Rule) -> RuleObject:
        """Return a rule object."""
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        skipped = None
        if rule.skipped is not None and rule.skipped_at is not None:
            fields = rule.skipped.model_dump()
            skipped = SkippedObject.model_validate(fields | {"at": rule.skipped_at})
        definition = {name: getattr(rule.definition, name) for name in type(rule.definition).model_fields}
        return RuleObject(
            id=rule.id,
            **definition | {"inputs": list(rule.definition.inputs)},
            created_at=rule.created_at,
            updated_at=rule.updated_at,
            made_by=rule.made_by,
            jobs_today=self._rows.count_jobs(rule.id, midnight),
            last_job=self._rows.last_job(rule.id),
            last_skipped=skipped,
            links=RuleLinks(self=f"/v1/rules/{rule.id}", jobs=f"/v1/jobs?rule={rule.id}"),
        )
