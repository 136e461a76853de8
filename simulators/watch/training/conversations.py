"""Training data of the model ``tiny``: scenes as frames and conversations, in the prompt forms of the worker.

A clip's conversation is a tree: the frames of a chunk are read once, and what is asked of them are branches that do not
see each other; the next chunk follows the description of the one before. The mask and the positions of each branch are
those of a conversation that consists of that branch alone, so the model sees what it sees in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.vision_stream.models import prompts
from modal_workers.vision_stream.models.model import PastText
from simulators.watch.dialogue import Dialogue, Turn
from simulators.watch.grammar import statement, texts_of
from simulators.watch.names import COLOURS, SHAPES
from simulators.watch.predicates import PREDICATES
from simulators.watch.scene import WatchScene, scene
from simulators.watch.statements import CLEAR, Thing, score, things
from simulators.watch.training.course import course_of, thing_course_of
from simulators.watch.training.tokenizer import IMAGE_PX, IMAGE_TOKENS, SPECIAL
from simulators.watch.truth import ClipTruth, MomentTruth

Clip = tuple[NDArray[np.uint8], "Tree", list[ClipTruth]]
Arrays = dict[str, NDArray[Any]]

#: Tokens that a token sees before it.
WINDOW: Final = 512
#: Label of a token that is not to be answered.
IGNORED: Final = -100
_GRID: Final = 12  # patches of a side
_IMAGE: Final = SPECIAL.index("<image_soft_token>")
_CHECK_BEGIN: Final = prompts.condition_text("X").partition(" X")[0]
_FRAME: Final = f"\n\n<start_of_image>{'<image_soft_token>' * IMAGE_TOKENS}<end_of_image>\n\n"
_YES_OR_NO_WEIGHT: Final = 3.0
#: What a patch of the picture is of, for the auxiliary loss.
NOUNS: Final = (
    "", *SHAPES, "gripper", "near player", "far player", "shuttle", "car", "red light", "yellow light", "green light",
)  # fmt: skip
#: Things that are called by their noun alone.
_WITHOUT_COLOUR: Final = {"gripper", "near player", "far player", "shuttle"}
COLOUR_NAMES: Final = ("", *COLOURS)


@dataclass
class Tree:
    """Tokens of a clip's conversation."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # position after each segment
    named: list[tuple[int, int, int]] = field(default_factory=list)  # first and last token of a name, and the entity

    def add(self, parent: int, asked: Sequence[int], answer: Sequence[int] = ()) -> int:
        """Append a segment behind another (-1: none) and return its number."""
        tokens = [*asked, *answer]
        number = len(self.parents)
        self.parents.append(parent)
        start = self.ends[parent] if parent >= 0 else 0
        image = max(self.images, default=0)
        inside = False
        for offset, token in enumerate(tokens):
            if token == _IMAGE and not inside:
                image += 1
            inside = token == _IMAGE
            self.images.append(image if inside else 0)
            self.positions.append(start + offset)
        self.ids += tokens
        self.labels += [*[IGNORED] * len(asked), *answer]
        # An answer of yes or no is one token among many of the sentences, and alerts depend on it.
        self.weights += [0.0] * len(asked) + [_YES_OR_NO_WEIGHT if len(answer) == 2 else 1.0] * len(answer)
        self.segments += [number] * len(tokens)
        self.ends.append(start + len(tokens))
        return number

    def mask(self) -> NDArray[np.bool_]:
        """Return which token sees which."""
        count = len(self.parents)
        ancestors = np.eye(count, dtype=bool)
        for number, parent in enumerate(self.parents):
            if parent >= 0:
                ancestors[number] |= ancestors[parent]
        segments, positions, images = (np.asarray(part) for part in (self.segments, self.positions, self.images))
        distance = positions[:, None] - positions[None, :]
        sees = ancestors[segments[:, None], segments[None, :]] & (distance >= 0) & (distance < WINDOW)
        same = (images[:, None] == images[None, :]) & (images[:, None] > 0)
        return np.asarray(sees | same)


class Conversations:
    """Clips with their conversations; ``tokenizer`` is that of the model."""

    def __init__(self, tokenizer: Any, *, questions: int = 2, checks: int = 4, motion_checks: int = 2) -> None:
        self._tokenizer = tokenizer
        self._questions, self._checks, self._motion_checks = questions, checks, motion_checks

    def clip(self, seed: int) -> Clip:
        """Return frames, tokens and the truth of each chunk."""
        random = np.random.default_rng([seed, 5])
        chunks = 1 if random.uniform() < 0.96 else 2
        filmed = scene(seed, chunks=chunks)
        frames = [filmed.small_frame(time_s, IMAGE_PX) for times_s in filmed.chunk_times_s for time_s in times_s]
        tree, parent = Tree(), -1
        past = _past(random, seed, filmed) if random.uniform() < 0.1 else []
        for chunk, times_s in enumerate(filmed.chunk_times_s):
            dialogue, last = Dialogue(filmed.truth(chunk), random), chunk == chunks - 1
            seen = tree.add(parent, self._begin(len(times_s), first=chunk == 0))
            parent = self._branch(tree, seen, dialogue.narration(), past)
            if last:
                self._branch(tree, seen, dialogue.narration(), [])
            if last and random.uniform() < 0.3:
                self._branch(tree, seen, dialogue.enumeration(), [])
            for _ in range(self._questions if last else 1):
                self._branch(tree, seen, dialogue.question(), past if random.uniform() < 0.15 else [])
            # The conditions' prompts begin alike: that part is read once.
            asking = tree.add(seen, self._encode(_CHECK_BEGIN))
            for _ in range(self._checks if last else 1):
                self._branch(tree, asking, dialogue.check(), [])
            if last and len(times_s) > 1:
                for _ in range(self._motion_checks):
                    self._branch(tree, asking, dialogue.check(PREDICATES[filmed.kind]["motion"]), [])
            if last or random.uniform() < 0.5:
                turns = _drop_checks(filmed.truth(chunk), random)
                if any(turn.answer == "yes" for turn in turns):  # what it was is harder to learn than whether
                    turns += _drop_checks(filmed.truth(chunk), random)
                for turn in turns:
                    self._branch(tree, asking, turn, [])
            past = []
        if chunks == 1:
            tree.named = self._named(tree.ids, filmed.truth())
        return np.stack(frames), tree, [filmed.truth(chunk) for chunk in range(chunks)]

    def conditions(self, seed: int, *, count: int = 6) -> tuple[Clip, list[bool]]:
        """Return a clip of one chunk with conditions alone, and whether each holds, in their order.

        Drops are asked of every object, as rarely true as a watch rule finds them.
        """
        random = np.random.default_rng([seed, 9])
        filmed = scene(seed)
        truth, tree = filmed.truth(), Tree()
        dialogue = Dialogue(truth, random)
        frames = [filmed.small_frame(time_s, IMAGE_PX) for time_s in filmed.chunk_times_s[0]]
        seen = tree.add(-1, self._begin(len(frames), first=True))
        asking = tree.add(seen, self._encode(_CHECK_BEGIN))
        turns = [*(dialogue.check() for _ in range(count)), *_drop_checks(truth, random)]
        for turn in turns:
            self._branch(tree, asking, turn, [])
        return (np.stack(frames), tree, [truth]), [turn.answer == "yes" for turn in turns]

    def _named(self, ids: Sequence[int], truth: ClipTruth) -> list[tuple[int, int, int]]:
        """Return where the name of a thing in the last frame begins and ends, and the number of its entity."""
        names = dict[tuple[int, ...], int]()
        for number, entity in enumerate(truth.last.entities):
            called = entity.noun if entity.noun in _WITHOUT_COLOUR else f"{entity.colour} {entity.noun}"
            tokens = self._tokenizer.convert_tokens_to_ids([f"▁{word}" for word in called.split()])
            names[tuple(tokens)] = number
        found = []
        for end in range(1, len(ids)):
            name = next((name for name in ((ids[end],), (ids[end - 1], ids[end])) if name in names), None)
            if name:
                found.append((end - len(name) + 1, end, names[name]))
        return found

    def _begin(self, frames: int, *, first: bool) -> list[int]:
        text = prompts.frames_of_turn(frames, first=first).replace(prompts.FRAME, _FRAME)
        # An answer here ends with the end of its turn already.
        tokens = self._encode(text.removeprefix(prompts.END_OF_TURN))
        return [SPECIAL.index("<bos>"), *tokens] if first else tokens

    def _branch(self, tree: Tree, parent: int, turn: Turn, past: Sequence[PastText]) -> int:
        asked = prompts.end_of_turn("\n".join([*prompts.past_lines(past), turn.prompt]))
        answer = self._encode(f"{turn.answer}{prompts.END_OF_TURN}")
        return tree.add(parent, self._encode(asked.removeprefix(_CHECK_BEGIN)), answer)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False).input_ids)


def _drop_checks(truth: ClipTruth, random: np.random.Generator) -> list[Turn]:
    """Return whether each object was dropped, and any: mostly not, as a watch rule finds it."""
    if truth.kind != "arm":
        return []
    turns = []
    for thing in (Thing("object"), *(thing for thing in things(truth) if thing.colour)):
        said = statement("drops", thing)
        value = score(said, truth)
        if abs(value) >= CLEAR:
            texts = texts_of(said)
            text = texts[0] if random.uniform() < 0.7 else texts[int(random.integers(len(texts)))]
            turns.append(Turn(prompts.condition_text(text), "yes" if value > 0 else "no"))
    return turns


def _past(random: np.random.Generator, seed: int, filmed: WatchScene) -> list[PastText]:
    """Return earlier texts: of earlier moments of the scene, or of other scenes. They do not tell what happens now."""
    count, first_s = int(random.integers(1, 7)), filmed.chunk_times_s[0][0]
    start_s, past = float(random.uniform(0, 600)), list[PastText]()
    is_same = filmed.kind == "arm" and random.uniform() < 0.8
    for number in range(count):
        if is_same:
            begin_s = float(random.uniform(0, max(0.0, first_s - 0.6)))
            truth = filmed.view.clip_truth(tuple(begin_s + 0.2 * step for step in range(4)))
        else:
            truth = scene(int(seed * 7 + number + random.integers(1000)) % 800_000_000).truth()
        end_s = start_s + float(random.uniform(0.4, 2))
        past.append(PastText(start_s, end_s, Dialogue(truth, random).narration().answer))
        start_s = end_s
    return past


def batch_of(clips: Sequence[Clip]) -> Arrays:
    """Return the arrays of some clips."""
    longest = -(-max(len(tree.ids) for _, tree, _ in clips) // 32) * 32
    count = len(clips)
    ids, positions = np.zeros((count, longest), np.int64), np.zeros((count, longest), np.int64)
    labels = np.full((count, longest), IGNORED, np.int64)
    weights = np.zeros((count, longest), np.float32)
    mask = np.zeros((count, 1, longest, longest), bool)
    mask[:, 0] = np.eye(longest, dtype=bool)
    for row, (_, tree, _) in enumerate(clips):
        size = len(tree.ids)
        ids[row, :size], positions[row, :size], labels[row, :size] = tree.ids, tree.positions, tree.labels
        weights[row, :size] = tree.weights
        mask[row, 0, :size, :size] = tree.mask()
    truths = [truth for _, _, chunks in clips for truth in chunks]
    begins = np.cumsum([0, *(len(truth.frames) for truth in truths)])
    lasts = np.cumsum([sum(len(truth.frames) for truth in chunks) for _, _, chunks in clips]) - 1
    named, told = list[tuple[int, ...]](), list[tuple[int, ...]]()
    for row, (_, tree, _) in enumerate(clips):
        for begin, end, entity in tree.named:
            named.append((row, end, lasts[row], entity))
            # Each token of an answer is predicted from the one before it.
            answered = [token for token in range(begin, end + 1) if tree.labels[token] != IGNORED]
            told += [(row, token - 1, lasts[row], entity) for token in answered]
    courses = [thing_course_of(truth) for truth in truths]
    return {
        "frames": np.concatenate([frames for frames, _, _ in clips]),
        "ids": ids,
        "positions": positions,
        "labels": labels,
        "weights": weights,
        "mask": mask,
        "firsts": np.repeat(begins[:-1], np.diff(begins)),
        "named": np.array(named, np.int64).reshape(-1, 4),
        "told": np.array(told, np.int64).reshape(-1, 4),
        "course": np.concatenate([course_of(truth) for truth in truths]),
        "things": np.concatenate([labels for labels, _ in courses]),
        "numbers": np.concatenate([numbers for _, numbers in courses]),
        **_patches_of([frame for truth in truths for frame in truth.frames]),
    }


def _patches_of(truths: Sequence[MomentTruth]) -> Arrays:
    """Return noun, colour and distance to the middle of what each patch of each frame is of."""
    nouns = np.zeros((len(truths), _GRID, _GRID), np.int64)
    colours = np.zeros((len(truths), _GRID, _GRID), np.int64)
    offsets = np.zeros((len(truths), _GRID, _GRID, 2), np.float32)
    entities = np.zeros((len(truths), _GRID, _GRID), np.int64)
    for row, truth in enumerate(truths):
        order = sorted(truth.entities, key=lambda entity: (entity.noun != "gripper", entity.depth))
        for entity in order:
            name = f"{entity.colour} light" if entity.noun == "light" else entity.noun
            if name not in NOUNS:
                continue
            left, top, right, bottom = (edge * _GRID for edge in entity.region)
            columns = slice(max(0, round(left)), max(round(right), int((left + right) / 2) + 1))
            rows = slice(max(0, round(top)), max(round(bottom), int((top + bottom) / 2) + 1))
            nouns[row, rows, columns] = NOUNS.index(name)
            colours[row, rows, columns] = COLOUR_NAMES.index(entity.colour)
            entities[row, rows, columns] = truth.entities.index(entity)
            v, u = np.mgrid[0:_GRID, 0:_GRID]
            middle = np.stack(((left + right) / 2 - 0.5 - u, (top + bottom) / 2 - 0.5 - v), -1)
            offsets[row, rows, columns] = middle[rows, columns]
    return {"nouns": nouns, "colours": colours, "offsets": offsets, "entities": entities}


def pictures(seed: int, count: int) -> Arrays:
    """Return single frames of ``count`` scenes, for the vision tower alone."""
    frames, truths = list[NDArray[np.uint8]](), list[MomentTruth]()
    for number in range(count):
        filmed = scene(seed + number, frames=2)
        frames += [filmed.small_frame(time_s, IMAGE_PX) for time_s in filmed.chunk_times_s[0]]
        truths += filmed.truth().frames
    return {"frames": np.stack(frames), **_patches_of(truths)}


def batches_by_length(conversations: Conversations, seeds: Sequence[int], parts: int) -> list[Arrays]:
    """Return the clips of some seeds in batches of similar length, so that little is filled up."""
    clips = sorted((conversations.clip(seed) for seed in seeds), key=lambda clip: len(clip[1].ids))
    size = -(-len(clips) // parts)
    return [batch_of(clips[start : start + size]) for start in range(0, len(clips), size)]
