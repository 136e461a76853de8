"""Comparison of the texts and alerts of a session with the episode that its camera filmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from simulators.watch.grammar import NotUnderstoodError, statements_of
from simulators.watch.scene import ArmEpisode
from simulators.watch.statements import STATEMENT_KINDS, is_true
from simulators.watch.truth import ClipTruth

#: An alert belongs to an event if its frames end at most this long after it, and begin before its end.
_ALERT_S: Final = 3.0


@dataclass
class StatementCounts:
    """Counts of true and of all statements by kind."""

    true: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    #: Texts that are in no form of the grammar: nothing in them was counted.
    not_understood: int = 0

    @property
    def true_share(self) -> float | None:
        """Share of true statements; None without any."""
        return self.true.total() / self.said.total() if self.said.total() else None

    def add(self, text: str, truth: ClipTruth) -> None:
        """Count the statements of a text about frames with this truth."""
        self.texts += 1
        try:
            statements = statements_of(text)
        except NotUnderstoodError:
            self.not_understood += 1
            return
        for statement in statements:
            self.said[statement.kind] += 1
            self.true[statement.kind] += is_true(statement, truth)


@dataclass
class WatchComparison(StatementCounts):
    """The same, and counts of alerts and true events of one name."""

    events: int = 0
    #: Events with an alert, and alerts with an event.
    alerted: int = 0
    right_alerts: int = 0
    alerts: int = 0

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {
            "texts": self.texts,
            "not_understood": self.not_understood,
            "statements": self.said.total(),
            "true_share": self.true_share,
            "true_share_by_kind": {
                kind: self.true[kind] / self.said[kind] for kind in STATEMENT_KINDS if self.said[kind]
            },
            "events": self.events,
            "events_with_alert": self.alerted,
            "alerts": self.alerts,
            "right_alerts": self.right_alerts,
        }


def compare_with_episode(
    texts: Iterable[Mapping[str, Any]],
    alerts: Iterable[Mapping[str, Any]],
    episode: ArmEpisode,
    times_s: Mapping[int, float],
    *,
    event: str = "dropped",
    found: WatchComparison | None = None,
) -> WatchComparison:
    """Compare the texts and alerts of a session (data of its events) with the episode that its camera filmed.

    Args:
        texts: data of ``session.text``; each is compared with the truth of the frames that the model was shown.
        alerts: data of ``session.alert`` of one rule.
        episode: what happened.
        times_s: time in the episode of each frame by its number.
        event: name of the events that the rule looks for.
        found: counts of other episodes, which these are added to.
    """
    found = WatchComparison() if found is None else found
    for text in texts:
        if text["text"] and not text.get("prompt_id"):
            found.add(text["text"], episode.truth(_times_of(text, times_s)))
    _compare_alerts(found, list(alerts), episode, times_s, event)
    return found


def _compare_alerts(
    found: WatchComparison,
    alerts: Sequence[Mapping[str, Any]],
    episode: ArmEpisode,
    times_s: Mapping[int, float],
    name: str,
) -> None:
    last_s = max(times_s.values(), default=0.0)
    events = [event for event in episode.events if event.name == name and event.end_s <= last_s]
    spans = [_times_of(alert, times_s) for alert in alerts]
    matches = [
        [span[0] <= event.end_s and event.start_s <= span[-1] <= event.end_s + _ALERT_S for span in spans]
        for event in events
    ]
    found.events += len(events)
    found.alerts += len(alerts)
    found.alerted += sum(map(any, matches))
    found.right_alerts += sum(any(match[number] for match in matches) for number in range(len(spans)))


def _times_of(data: Mapping[str, Any], times_s: Mapping[int, float]) -> list[float]:
    return [times_s[frame["seq"]] for frame in data["frames"]]
