"""All upload rules, folded from the event stream into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from contracts.events.base import Envelope
from contracts.rule import Rule, fold


class RuleBook:
    """Rules by tenant; deleted ones are removed, so that the memory follows from the rules that there are."""

    def __init__(self) -> None:
        """Create an empty book."""
        self._rules: dict[str, dict[str, Rule]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rules.values()))

    def __iter__(self) -> Iterator[Rule]:
        return iter([rule for rules in self._rules.values() for rule in rules.values()])

    def restore(self, rules: Iterable[Rule]) -> None:
        """Go on from rules that were stored; nothing may have been folded yet."""
        for rule in rules:
            self._rules.setdefault(rule.tenant, {})[rule.id] = rule

    def get(self, tenant: str, rule_id: str) -> Rule | None:
        """Return a rule; None if there is none, or none any more."""
        return self._rules.get(tenant, {}).get(rule_id)

    def applying(self, tenant: str, sequence: int) -> list[Rule]:
        """Return the tenant's rules that apply to uploads which were completed at this sequence, if they match."""
        return [rule for rule in self._rules.get(tenant, {}).values() if rule.applies_to(sequence)]

    def fold(self, envelope: Envelope, sequence: int) -> Rule | None:
        """Fold one event of a rule and return the rule after it; None when it is unknown."""
        rules = self._rules.setdefault(envelope.tenant, {})
        rule = fold(rules.pop(envelope.subject, None), envelope, sequence)
        if rule is not None and rule.deleted_at is None:
            rules[envelope.subject] = rule
        if not rules:
            del self._rules[envelope.tenant]
        return rule
