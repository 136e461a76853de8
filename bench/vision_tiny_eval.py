"""Measures the model `tiny` on held-out scenes, from the simulator's truth, by the worker's own code.

    python bench/vision_tiny_eval.py [--scenes 500] [--episodes 10] [--episode-seconds 60] [--model tiny] [--first 0]

Prints the share of true statements by kind, for descriptions and for answers to questions; the same with the pictures
of another scene (to show that it looks at the picture); the judgement of conditions; and the alerts of a rule over
episodes. A statement is true if the truth of exactly these frames says so; a sentence in no form of the grammar is
counted apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.needs import needs

needs("torch", "transformers", "cv2", "numpy")

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from contracts.events.session import SessionText, ShownFrame
from modal_workers.vision_stream.models.loading import load_model
from modal_workers.vision_stream.models.model import ChunkRequest
from modal_workers.vision_stream.rules import WatchRules
from modal_workers.vision_stream.spec import WatchRule
from simulators.watch.comparison import StatementCounts, WatchComparison, compare_with_episode
from simulators.watch.dialogue import INSTRUCTION, Dialogue
from simulators.watch.grammar import statements_of
from simulators.watch.scene import HELD_OUT_SEEDS, arm_episode, clip
from simulators.watch.statements import CLEAR, STATEMENT_KINDS, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modal_workers.vision_stream.models.model import WatchSession
    from simulators.watch.canvas import Picture
    from simulators.watch.truth import ClipTruth

RULE: Final = "the gripper drops the object"
_CHUNK_FRAMES: Final = 6
_CHUNK_S: Final = 1.0


@dataclass
class Judgements:
    """Conditions judged true or false, by the kind of what they say."""

    right: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    alerts: Counter[tuple[bool, bool]] = field(default_factory=Counter)  # (true, said to be true)

    def alert_row(self, name: str) -> str:
        """Return precision and recall of the conditions that something was dropped."""
        hits, false, missed = self.alerts[True, True], self.alerts[False, True], self.alerts[True, False]
        precision = hits / (hits + false) if hits + false else float("nan")
        recall = hits / (hits + missed) if hits + missed else float("nan")
        return f"| {name} | {precision:.3f} | {recall:.3f} | {hits + missed} | {sum(self.alerts.values())} |"


def row_of(counts: StatementCounts, name: str) -> str:
    """Return a row of the table."""
    cells = [
        f"{counts.true[kind] / counts.said[kind]:.3f} ({counts.said[kind]})" if counts.said[kind] else "-"
        for kind in STATEMENT_KINDS
    ]
    return f"| {name} | {' | '.join(cells)} | {counts.not_understood} of {counts.texts} |"


def request_of(frames: Sequence[Picture], question: str | None = None) -> ChunkRequest:
    return ChunkRequest(frames, 0.0, 1.0, INSTRUCTION, question)


def say(session: WatchSession, frames: Sequence[Picture], question: str | None = None) -> str:
    return session.watch(request_of(frames, question), lambda _: None, lambda: False).text


def measure_scenes(model_name: str, first: int, count: int) -> None:
    """Print the tables of single chunks."""
    model = load_model(model_name, on_progress=lambda *_: None)
    told, answered, wrong_told, wrong_answered = (StatementCounts() for _ in range(4))
    checked, wrong_checked = Judgements(), Judgements()
    started = time.perf_counter()
    for number in range(first, first + count):
        seed = HELD_OUT_SEEDS + number
        shown = clip(seed)
        other = clip(seed + 10_000_000, shown.truth.kind, frames=len(shown.frames))
        dialogue = Dialogue(shown.truth, np.random.default_rng([seed, 6]))
        questions = [dialogue.question().prompt for _ in range(2)]
        conditions = [dialogue.condition() for _ in range(4)]
        if shown.truth.kind == "arm":
            conditions += _drop_conditions(shown.truth)
        for frames, shares, answers, judgements in (
            (shown.frames, told, answered, checked),
            (other.frames, wrong_told, wrong_answered, wrong_checked),
        ):
            session = model.open_session("history", history_texts=0)
            shares.add(say(session, frames), shown.truth)
            yes = session.check([condition for condition, _ in conditions])
            for (condition, holds), probability in zip(conditions, yes, strict=True):
                said = statements_of(condition)[-1]
                judgements.all[said.kind] += 1
                judgements.right[said.kind] += (probability >= 0.5) == holds
                if said.predicate == "drops":
                    judgements.alerts[holds, probability >= 0.5] += 1
            for question in questions:
                answers.add(say(session, frames, question), shown.truth)
            session.close()
    print(f"\n{count} scenes, seeds from {HELD_OUT_SEEDS + first}, {time.perf_counter() - started:.0f} s")
    print(f"\n| share of true statements (of how many) | {' | '.join(STATEMENT_KINDS)} | not of the grammar |")
    print("|---|---|---|---|---|---|---|")
    for shares, name in (
        (told, "descriptions"), (answered, "answers"), (wrong_told, "descriptions, other scene's pictures"),
        (wrong_answered, "answers, other scene's pictures"),
    ):  # fmt: skip
        print(row_of(shares, name))
    print(f"\n| conditions judged rightly (of how many) | {' | '.join(STATEMENT_KINDS)} |\n|---|---|---|---|---|---|")
    for judgements, name in ((checked, "own pictures"), (wrong_checked, "other scene's pictures")):
        cells = [
            f"{judgements.right[kind] / judgements.all[kind]:.3f} ({judgements.all[kind]})"
            if judgements.all[kind]
            else "-"
            for kind in STATEMENT_KINDS
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print('\n| "dropped" conditions | precision | recall | true | all |\n|---|---|---|---|---|')
    print(checked.alert_row("own pictures"))
    print(wrong_checked.alert_row("other scene's pictures"))


def _drop_conditions(truth: ClipTruth) -> list[tuple[str, bool]]:
    """Return the rule itself and one for each object, where the truth is beyond doubt."""
    texts = [RULE, *(f"the gripper drops the {e.colour} {e.noun}" for e in truth.last.entities if e.colour)]
    found = []
    for text in texts:
        value = score(statements_of(text)[-1], truth)
        if abs(value) >= CLEAR:
            found.append((text, value > 0))
    return found


def measure_episodes(model_name: str, count: int, length_s: float) -> None:
    """Print precision and recall of a rule's alerts over whole episodes, chunk by chunk as a session sees them."""
    model = load_model(model_name, on_progress=lambda *_: None)
    found = WatchComparison()
    rule = WatchRule(name="dropped", condition=RULE)
    for number in range(count):
        episode = arm_episode(HELD_OUT_SEEDS + 500_000 + number, length_s)
        session = model.open_session("history")
        rules, texts, alerts = WatchRules([rule]), [], []
        times_s: dict[int, float] = {}
        for chunk, start in enumerate(np.arange(0, length_s - _CHUNK_S, _CHUNK_S), 1):
            shown = [ShownFrame(seq=len(times_s) + i, captured_at_s=0.0) for i in range(1, _CHUNK_FRAMES + 1)]
            times = [float(start + i * _CHUNK_S / _CHUNK_FRAMES) for i in range(_CHUNK_FRAMES)]
            times_s |= {frame.seq: time_s for frame, time_s in zip(shown, times, strict=True)}
            request = ChunkRequest([episode.frame(time_s) for time_s in times], times[0], times[-1], INSTRUCTION)
            text = SessionText(
                run_id="",
                chunk=chunk,
                text=session.watch(request, lambda _: None, lambda: False).text,
                frames=shown,
                start_s=times[0],
                end_s=times[-1],
                rules={rule.name: session.check([RULE])[0]},
            )
            texts.append(text.model_dump())
            alerts += [{"frames": [frame.model_dump() for frame in fired.frames]} for fired in rules.update(text)]
        compare_with_episode(texts, alerts, episode, times_s, found=found)
        session.close()
    print(f"\n{count} episodes of {length_s:.0f} s, {_CHUNK_FRAMES} frames a second, rule: {RULE!r}")
    print(
        f"alerts: {found.alerted} of {found.events} drops told, "
        f"{found.alerts - found.right_alerts} alerts without a drop"
    )
    print(
        f"| descriptions of episodes | {' | '.join(STATEMENT_KINDS)} | not of the grammar |\n"
        f"{row_of(found, 'all chunks')}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--episode-seconds", type=float, default=60)
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.scenes:
        measure_scenes(args.model, args.first, args.scenes)
    if args.episodes:
        measure_episodes(args.model, args.episodes, args.episode_seconds)


if __name__ == "__main__":
    main()
