"""Trains the model ``tiny`` on simulated scenes and writes its folder.

    python -m simulators.watch.training.train FOLDER [--vision-minutes 6] [--minutes 37.5] [--seed 1] [--processes 2]

First the vision tower alone learns what each patch of a picture is of; then the whole model learns the conversations,
and the vision tower goes on with its own task beside it. Weights, heads and the optimisers' state are saved every four
minutes, so that a run that is interrupted leaves a model, and ``--resume`` goes on from there. With ``--weights`` it
begins with a model without its heads, such as the one of the package: they are trained first, on the model as it is
(``--head-steps``). The seed fixes scenes, conversations and first weights; how many steps fit into the time depends on
the machine. With ``--vision-steps`` and ``--steps`` a machine repeats its own run.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import spawn

from modal_workers.vision_stream.models.gemma.hugging_face import AutoTokenizer, Gemma3ForConditionalGeneration
from simulators.watch.training.conversations import Conversations, batches_by_length, pictures
from simulators.watch.training.network import Batch, Sizes, TrainedNetwork, make_network
from simulators.watch.training.tokenizer import write_tokenizer

Stage = Literal["vision", "heads", "answers"]

_MUON: Final = 0.02
_ADAM: Final = 0.002
_DECAY: Final = 0.02
_WARM_UP_STEPS: Final = 50
_SAVE_EVERY_S: Final = 240
_SEEDS: Final = 50_000_000  # of one training
_VISION_SEEDS: Final = 40_000_000


class TrainingProcess:
    """One of the processes that train together; the first of them saves and tells."""

    def __init__(self, args: argparse.Namespace, rank: int) -> None:
        torch.manual_seed(args.seed)
        self._args, self._rank, self._folder = args, rank, Path(args.folder)
        if rank == 0:
            write_tokenizer(self._folder)
        if args.processes > 1:
            distributed.barrier()
        self._tokenizer = AutoTokenizer.from_pretrained(self._folder)
        self._sizes = Sizes()
        self._trained = TrainedNetwork(self._tokenizer, self._sizes)
        self._optimisers_before: list[Any] | None = None
        if args.resume:
            found = torch.load(args.resume, weights_only=True)
            for name, part in self._trained.parts().items():
                if name in found:
                    part.load_state_dict(found[name])
            self._optimisers_before = found.get("optimisers")
        elif args.weights:
            begun = Gemma3ForConditionalGeneration.from_pretrained(args.weights, dtype=torch.float32)
            self._trained.network.load_state_dict(begun.state_dict())

    def train(self, stage: Stage, minutes: float, steps: int | None) -> None:
        """Run one stage for some minutes or steps."""
        trained = self._trained
        modules: list[nn.Module] = {
            "vision": [trained.network.model.vision_tower, trained.heads],
            "heads": trained.told_apart(),
            "answers": [*trained.parts().values()],
        }[stage]
        trained.network.requires_grad_(stage != "heads")
        if stage == "answers" and self._args.frozen_vision:
            trained.freeze_vision()
        optimisers = _optimisers(modules)
        if stage == "answers" and self._optimisers_before is not None:
            for (optimiser, _), state in zip(optimisers, self._optimisers_before, strict=True):
                optimiser.load_state_dict(state)
        parameters = [each for module in modules for each in module.parameters() if each.requires_grad]
        conversations = Conversations(self._tokenizer)
        warm = _WARM_UP_STEPS if stage == "answers" and self._optimisers_before is not None else 0
        started, saved_s, mean = time.perf_counter(), 0.0, dict[str, float]()
        for step in itertools.count():
            spent_s = time.perf_counter() - started
            share = self._agreed(step / steps if steps else spent_s / (minutes * 60))
            if share >= 1:
                break
            for optimiser, rate in optimisers:
                optimiser.zero_grad(set_to_none=True)
                for group in optimiser.param_groups:
                    group["lr"] = rate * self._args.rate * _rate(step + warm, share, self._args.decay)
            losses = self._backward(stage, self._batches(stage, step, conversations))
            self._average(parameters)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimiser, _ in optimisers:
                optimiser.step()
            for name, value in losses.items():
                mean[name] = 0.97 * mean.get(name, value) + 0.03 * value
            if step % 25 == 0:
                self._tell(f"{stage} {step} {spent_s:.0f} s: {', '.join(f'{n} {v:.3f}' for n, v in mean.items())}")
            if stage == "answers" and spent_s - saved_s > _SAVE_EVERY_S:
                saved_s = spent_s
                self._save(optimisers)
        self._save(optimisers if stage == "answers" else None)
        self._tell(f"{stage}: {step} steps in {spent_s:.0f} s")

    def _batches(self, stage: Stage, step: int, conversations: Conversations) -> list[Batch]:
        """Return the scenes of a step: always the same for a seed, and others in each process."""
        args = self._args
        size = args.vision_batch if stage == "vision" else args.batch
        first = args.seed * _SEEDS + (_VISION_SEEDS if stage == "vision" else 0)
        first += (step * args.processes + self._rank) * size
        if stage == "heads":
            first += _SEEDS // 2
        if stage == "vision":
            found = [pictures(first, size)]
        else:
            found = batches_by_length(conversations, range(first, first + size), args.parts)
        return [{name: torch.from_numpy(value) for name, value in batch.items()} for batch in found]

    def _backward(self, stage: Stage, batches: Sequence[Batch]) -> dict[str, float]:
        """Add up the gradients of some batches; return the mean losses."""
        weight = 0.0 if stage == "vision" else sum(float(batch["weights"].sum()) for batch in batches)
        told = dict[str, float]()
        for batch in batches:
            # Products in bfloat16; weights, norms and losses stay in float32.
            with torch.autocast("cpu", torch.bfloat16):
                if stage == "vision":
                    losses = {"patches": self._trained.patch_loss(batch) / len(batches)}
                else:
                    answers, dense = self._trained.losses(batch)
                    losses = {name: self._args.dense_share * value / len(batches) for name, value in dense.items()}
                    if stage == "answers":
                        losses["answers"] = answers / weight
            torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            for name, value in losses.items():
                told[name] = told.get(name, 0.0) + value.item()
        return told

    def _agreed(self, share: float) -> float:
        """Return the first process's share of the time, in every process."""
        told = torch.tensor(share, dtype=torch.float64)
        if self._args.processes > 1:
            distributed.broadcast(told, 0)
        return float(told)

    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients of the processes."""
        if self._args.processes == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        flat /= self._args.processes
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _save(self, optimisers: Sequence[tuple[torch.optim.Optimizer, float]] | None) -> None:
        """Write the weights as float16; the folder always has whole files."""
        if self._rank:
            return
        trained = self._trained
        half: Any = make_network(len(self._tokenizer), self._sizes).half()
        half.load_state_dict({name: value.half() for name, value in trained.network.state_dict().items()})
        with tempfile.TemporaryDirectory(dir=self._folder.parent) as part:
            half.save_pretrained(part)
            for path in Path(part).iterdir():
                shutil.move(path, self._folder / path.name)
        states: dict[str, Any] = {name: part.state_dict() for name, part in self._trained.parts().items()}
        if optimisers:
            states["optimisers"] = [optimiser.state_dict() for optimiser, _ in optimisers]
        checkpoint = self._folder.with_name(f"{self._folder.name}.checkpoint")
        torch.save(states, checkpoint.with_suffix(".part"))
        checkpoint.with_suffix(".part").replace(checkpoint)

    def _tell(self, text: str) -> None:
        if self._rank == 0:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


def _optimisers(modules: Sequence[nn.Module]) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return Muon for the layers' matrices and AdamW for everything else, with their learning rates."""
    matrices, others = list[nn.Parameter](), list[nn.Parameter]()
    optimisers = list[tuple[torch.optim.Optimizer, float]]()
    for name, parameter in itertools.chain.from_iterable(module.named_parameters() for module in modules):
        if not parameter.requires_grad:
            continue
        (matrices if parameter.ndim == 2 and ".layers." in name else others).append(parameter)
    if matrices:
        muon = torch.optim.Muon(matrices, lr=_MUON, weight_decay=_DECAY, adjust_lr_fn="original")
        optimisers.append((muon, _MUON))
    optimisers.append((torch.optim.AdamW(others, lr=_ADAM, betas=(0.9, 0.98), weight_decay=0.0), _ADAM))
    return optimisers


def _rate(step: int, share: float, decay: float) -> float:
    """Return the share of the learning rate: up at the beginning, level, down over the last ``decay`` of the time."""
    return min(1.0, (step + 1) / _WARM_UP_STEPS) * max(0.02, min(1.0, (1 - share) / decay))


def run(rank: int, args: argparse.Namespace, meeting: str) -> None:
    """Train in one of the processes.

    Each has one thread: threads wait for each other at every operation, which costs most where others compute too.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if meeting:
        distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=args.processes)
    trainer = TrainingProcess(args, rank)
    if args.vision_minutes or args.vision_steps:
        trainer.train("vision", args.vision_minutes, args.vision_steps)
    if args.head_steps:
        trainer.train("heads", 0.0, args.head_steps)
    if args.minutes or args.steps:
        trainer.train("answers", args.minutes, args.steps)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vision-minutes", type=float, default=6.0)
    parser.add_argument("--minutes", type=float, default=37.5)
    parser.add_argument("--vision-steps", type=int)
    parser.add_argument("--head-steps", type=int, default=0, help="steps of the heads alone, with --weights")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--vision-batch", type=int, default=12, help="scenes of a step in each process")
    parser.add_argument("--batch", type=int, default=8, help="clips of a step in each process")
    parser.add_argument("--parts", type=int, default=2, help="parts that a step's clips are computed in")
    parser.add_argument("--dense-share", type=float, default=0.4, help="share of the heads' losses in the whole")
    parser.add_argument("--rate", type=float, default=1.0, help="share of the learning rates")
    parser.add_argument("--decay", type=float, default=0.4, help="share of the time in which the learning rate falls")
    parser.add_argument(
        "--frozen-vision", action="store_true", help="train the language model alone: a step takes half of the time"
    )
    parser.add_argument("--weights", type=Path, help="a model's folder that the run begins with; its heads are new")
    parser.add_argument("--resume", type=Path, help="a checkpoint that the run begins with")
    args = parser.parse_args(arguments)
    if args.processes == 1:
        run(0, args, "")
        return
    with tempfile.TemporaryDirectory() as folder:
        spawn(run, (args, f"file://{folder}/meeting"), args.processes)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
