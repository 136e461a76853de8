"""Decision when a watch rule publishes an alert. Pure: from the session's texts alone, so that it survives a worker."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from contracts.events.session import SessionText, ShownFrame
from modal_workers.vision_stream.spec import WatchRule

#: Frames that back an alert: the newest of them.
_FRAMES: Final = 32


@dataclass(frozen=True)
class RuleFired:
    """A rule that has become true, with the frames that back it."""

    rule: WatchRule
    confidence: float
    #: The text of the chunk in which it became true.
    text: SessionText
    frames: tuple[ShownFrame, ...]


@dataclass
class _State:
    """State of one rule for one camera."""

    true_chunks: int = 0
    #: Whether the condition was false since the last alert.
    is_armed: bool = True
    frames: deque[ShownFrame] = field(default_factory=lambda: deque(maxlen=_FRAMES))


class WatchRules:
    """The rules of one session.

    A rule fires at its ``min_chunks``-th consecutive true chunk; then not before a false chunk and not in its cooldown.
    A chunk without a probability of the rule (its inference failed) says nothing. Each camera's chunks count on their
    own: what one of them sees says nothing of what is before another.
    """

    def __init__(self, rules: Sequence[WatchRule]) -> None:
        """Start with every rule armed."""
        self._rules = rules
        #: By the rule's name, and by that and the camera.
        self._fired_at_s: dict[str, float] = {}
        self._states: dict[tuple[str, str | None], _State] = {}

    def update(self, text: SessionText) -> list[RuleFired]:
        """Apply the text of the next chunk; return the rules that have become true."""
        fired = []
        for rule in self._rules:
            confidence = text.rules.get(rule.name)
            if confidence is None:
                continue
            state = self._states.setdefault((rule.name, text.source), _State())
            if self._update(rule, state, text, confidence):
                fired.append(RuleFired(rule, confidence, text, tuple(state.frames)))
        return fired

    def reset(self) -> None:
        """Forget everything, as after a reset of the session."""
        self._fired_at_s, self._states = {}, {}

    def _update(self, rule: WatchRule, state: _State, text: SessionText, confidence: float) -> bool:
        if confidence < rule.threshold:
            state.true_chunks, state.is_armed = 0, True
            state.frames.clear()
            return False
        state.true_chunks += 1
        # A chunk may begin with the last frame of the one before.
        state.frames.extend(frame for frame in text.frames if frame not in state.frames)
        now_s = text.end_s or 0.0
        # Also after a clock that was set back: it must not keep the rule quiet for as long as it was set back.
        is_cooling_down = abs(now_s - self._fired_at_s.get(rule.name, -math.inf)) < rule.cooldown_s
        if not state.is_armed or state.true_chunks < rule.min_chunks or is_cooling_down:
            return False
        state.is_armed, self._fired_at_s[rule.name] = False, now_s
        return True
