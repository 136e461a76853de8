"""Measures the model `tiny` on held-out scenes, from the simulator's truth, by the worker's own code.

    python bench/vision_tiny_eval.py [--scenes 500] [--episodes 10] [--episode-seconds 60] [--model tiny] [--first 0]
                                     [--threshold 0.5] [--alerts-only]

Prints the share of true statements by kind, for descriptions and for answers to questions; the same with the pictures
of another scene (to show that it looks at the picture); the judgement of conditions; the alerts of a rule on the scenes
of the arm; and its alerts over episodes, as the demo watches them. ``--alerts-only`` says no sentences: it prints the
alerts alone, in a tenth of the time. A statement is true if the truth of exactly these frames says so; a sentence in no
form of the grammar is counted apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
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
from simulators.watch.scene import HELD_OUT_SEEDS, arm_episode, clip, scene
from simulators.watch.statements import CLEAR, STATEMENT_KINDS, score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modal_workers.vision_stream.models.model import WatchSession
    from simulators.watch.canvas import Picture
    from simulators.watch.truth import ClipTruth

RULE: Final = "the gripper drops the object"
#: As in the demo: four new frames, and the last one of the chunk before.
_CHUNK_FRAMES: Final = 4
_CHUNK_S: Final = 1.0


@dataclass
class Judgements:
    """Conditions judged true or false, by the kind of what they say."""

    right: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    #: Conditions that something was dropped: is it the rule, is it true, is it said to be.
    alerts: Counter[tuple[bool, bool, bool]] = field(default_factory=Counter)

    def add_drops(self, conditions: Sequence[tuple[str, bool]], said: Sequence[float], threshold: float) -> None:
        """Count the judgement of conditions that something was dropped."""
        for (condition, holds), probability in zip(conditions, said, strict=True):
            self.alerts[condition == RULE, holds, probability >= threshold] += 1

    def alert_row(self, name: str, *, of_rule: bool) -> str:
        """Return precision and recall of the rule, or of the same condition about one object each."""
        hits, false, missed, rest = (
            self.alerts[of_rule, holds, said]
            for holds, said in ((True, True), (False, True), (True, False), (False, False))
        )
        precision = hits / (hits + false) if hits + false else float("nan")
        recall = hits / (hits + missed) if hits + missed else float("nan")
        return f"| {name} | {precision:.3f} | {recall:.3f} | {hits + missed} | {hits + false + missed + rest} |"


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


def print_alerts(rows: Sequence[tuple[str, Judgements]], threshold: float) -> None:
    """Print precision and recall of the rule, and of the same condition about each object."""
    print(f'\n| "dropped", probability at least {threshold} | precision | recall | true | all |\n|---|---|---|---|---|')
    for of_rule, condition in ((True, "the rule"), (False, "each object")):
        for name, judgements in rows:
            print(judgements.alert_row(f"{condition}, {name}", of_rule=of_rule))


def measure_alerts(model_name: str, first: int, count: int, threshold: float) -> None:
    """Print the table of "dropped" conditions alone."""
    model, found = load_model(model_name, on_progress=lambda *_: None), Judgements()
    for seed in range(HELD_OUT_SEEDS + first, HELD_OUT_SEEDS + first + count):
        if scene(seed).kind != "arm":
            continue
        shown = clip(seed)
        session, conditions = model.open_session("history", history_texts=0), _drop_conditions(shown.truth)
        # Conditions are asked of the frames; what is said of them does not matter.
        session.watch(replace(request_of(shown.frames), max_new_tokens=1), lambda _: None, lambda: False)
        found.add_drops(conditions, session.check([condition for condition, _ in conditions]), threshold)
        session.close()
    print(f"\n{count} scenes, seeds from {HELD_OUT_SEEDS + first}")
    print_alerts([("own pictures", found)], threshold)


def measure_scenes(model_name: str, first: int, count: int, threshold: float) -> None:
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
        drops = _drop_conditions(shown.truth) if shown.truth.kind == "arm" else []
        conditions += drops
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
            judgements.add_drops(drops, yes[len(yes) - len(drops) :], threshold)
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
    print_alerts([("own pictures", checked), ("other scene's pictures", wrong_checked)], threshold)


def _drop_conditions(truth: ClipTruth) -> list[tuple[str, bool]]:
    """Return the rule itself and one for each object, where the truth is beyond doubt."""
    texts = [RULE, *(f"the gripper drops the {e.colour} {e.noun}" for e in truth.last.entities if e.colour)]
    found = []
    for text in texts:
        value = score(statements_of(text)[-1], truth)
        if abs(value) >= CLEAR:
            found.append((text, value > 0))
    return found


def measure_episodes(model_name: str, count: int, length_s: float, threshold: float, *, alerts_only: bool) -> None:
    """Print precision and recall of a rule's alerts over whole episodes, chunk by chunk as a session sees them."""
    model = load_model(model_name, on_progress=lambda *_: None)
    found = WatchComparison()
    rule = WatchRule(name="dropped", condition=RULE, threshold=threshold)
    for number in range(count):
        episode = arm_episode(HELD_OUT_SEEDS + 500_000 + number, length_s)
        session = model.open_session("history", history_texts=0)
        rules, texts, alerts = WatchRules([rule]), [], []
        frames_hz = _CHUNK_FRAMES / _CHUNK_S
        times_s = {number: number / frames_hz for number in range(int((length_s - _CHUNK_S) * frames_hz))}
        for chunk, begin in enumerate(range(0, len(times_s), _CHUNK_FRAMES), 1):
            numbers = [number for number in range(begin - 1, begin + _CHUNK_FRAMES) if number in times_s]
            shown = [ShownFrame(seq=number, captured_at_s=times_s[number]) for number in numbers]
            times = [times_s[number] for number in numbers]
            request = ChunkRequest([episode.frame(time_s) for time_s in times], times[0], times[-1], INSTRUCTION)
            request = replace(request, max_new_tokens=1) if alerts_only else request
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
        compare_with_episode([] if alerts_only else texts, alerts, episode, times_s, found=found)
        session.close()
    print(
        f"\n{count} episodes of {length_s:.0f} s, {_CHUNK_FRAMES} frames a second, rule: {RULE!r}, "
        f"probability at least {threshold}"
    )
    print(
        f"alerts: {found.alerted} of {found.events} drops told, "
        f"{found.alerts - found.right_alerts} of {found.alerts} alerts without a drop"
    )
    if alerts_only:
        return
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
    parser.add_argument("--threshold", type=float, default=0.5, help="of the rule")
    parser.add_argument("--alerts-only", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if args.scenes:
        measure = measure_alerts if args.alerts_only else measure_scenes
        measure(args.model, args.first, args.scenes, args.threshold)
    if args.episodes:
        measure_episodes(args.model, args.episodes, args.episode_seconds, args.threshold, alerts_only=args.alerts_only)


if __name__ == "__main__":
    main()
