"""Fits the words yes and no of a trained model to conditions, as rarely true as a watch rule finds them.

    python -m simulators.watch.training.conditions MODEL FOLDER [--clips 1200] [--seed 1]

Training asks conditions half and half, so that both answers are learned; a drop is then said to be too probable. Here
the difference of the two words' vectors is fitted (a logistic regression on the last hidden states, everything else
as it is), and FOLDER becomes a copy of MODEL with these vectors. The sentences stay: neither word is in any of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import torch
from torch.nn import functional

from modal_workers.vision_stream.models.gemma.hugging_face import AutoTokenizer, Gemma3ForConditionalGeneration
from simulators.watch.training.conversations import Conversations, batch_of
from simulators.watch.training.network import Sizes, TrainedNetwork

_SEEDS: Final = 50_000_000
#: Where the conditions' clips begin among the seeds of a training; it uses none beyond 40 million.
_FIRST: Final = 45_000_000
_BATCH: Final = 4
_FIT_STEPS: Final = 60


def states_and_answers(
    trained: TrainedNetwork, conversations: Conversations, seeds: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the last hidden states before each answer [answers, width], and whether it is yes."""
    states, answers = list[torch.Tensor](), list[bool]()
    clips = sorted((conversations.conditions(seed) for seed in seeds), key=lambda clip: len(clip[0][1].ids))
    for start in range(0, len(clips), _BATCH):
        part = clips[start : start + _BATCH]
        batch = {name: torch.from_numpy(value) for name, value in batch_of([clip for clip, _ in part]).items()}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            found = trained.before_answers(batch).float()
        # Each answer is a word and the end of the turn.
        states.append(found[::2])
        answers += [holds for _, all_hold in part for holds in all_hold]
    return torch.cat(states), torch.tensor(answers, dtype=torch.float32)


def fitted(states: torch.Tensor, answers: torch.Tensor, before: torch.Tensor, *, stay: float) -> torch.Tensor:
    """Return the direction whose product with a state is the log odds of yes; ``stay`` holds it near ``before``."""
    change = torch.zeros_like(before, requires_grad=True)
    optimiser = torch.optim.LBFGS([change], max_iter=_FIT_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        found = functional.binary_cross_entropy_with_logits(states @ (before + change), answers)
        whole = found + stay * change.square().sum()
        whole.backward()  # type: ignore[no-untyped-call]
        return whole

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return (before + change).detach()


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stay", type=float, default=1e-3, help="weight of the squared change")
    parser.add_argument("--states", type=Path, help="file that keeps the hidden states, or has them already")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    network: Any = Gemma3ForConditionalGeneration.from_pretrained(args.model, dtype=torch.float32)
    trained = TrainedNetwork(tokenizer, Sizes())
    trained.network.load_state_dict(network.state_dict())
    first = args.seed * _SEEDS + _FIRST
    if args.states and args.states.exists():
        found = torch.load(args.states, weights_only=True)
        states, answers = found["states"], found["answers"]
    else:
        states, answers = states_and_answers(trained, Conversations(tokenizer), range(first, first + args.clips))
        if args.states:
            torch.save({"states": states, "answers": answers}, args.states)
    words = network.model.language_model.embed_tokens.weight.data
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    before = words[yes] - words[no]
    after = fitted(states, answers, before, stay=args.stay)
    for name, direction in (("before", before), ("after", after)):
        loss = functional.binary_cross_entropy_with_logits(states @ direction, answers)
        sys.stdout.write(f"{name}: loss {loss:.4f} on {len(answers)} conditions of {args.clips} clips\n")
    words[yes] += (after - before) / 2
    words[no] -= (after - before) / 2
    shutil.copytree(args.model, args.folder, dirs_exist_ok=True)
    network.half().save_pretrained(args.folder)


if __name__ == "__main__":
    main()
