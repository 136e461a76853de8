"""The model in the package: small, and what it says of scenes that it has never seen is mostly true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from modal_workers.vision_stream.models import tiny
from modal_workers.vision_stream.models.loading import load_model
from modal_workers.vision_stream.models.model import ChunkRequest, WatchModel
from modal_workers.vision_stream.spec import INSTRUCTION
from simulators.watch.canvas import Picture
from simulators.watch.grammar import statements_of
from simulators.watch.scene import HELD_OUT_SEEDS, clip
from simulators.watch.statements import is_true
from simulators.watch.truth import ClipTruth
from tests.harness.watching.chunks import never, said_to_nobody, told_to_nobody

FOLDER = Path(tiny.__file__).parent
SCENES = 24
#: Far below what bench/README.md says, far above what it says of another scene's pictures.
LEAST = {"object": 0.75, "colour": 0.6}


@pytest.fixture(scope="module")
def model() -> WatchModel:
    torch.set_num_threads(1)
    return load_model("tiny", on_progress=told_to_nobody)


def listed(model: WatchModel, frames: tuple[Picture, ...]) -> str:
    session = model.open_session("history")
    request = ChunkRequest(frames, 0.0, 1.0, INSTRUCTION, question="What is on the table?")
    return session.watch(request, said_to_nobody, never).text


def test_the_weights_are_small_and_their_card_is_beside_them() -> None:
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) <= 8_500_000
    assert "held-out" in (FOLDER / "README.md").read_text()


def test_it_says_which_objects_there_are_and_it_looks_at_the_picture(model: WatchModel) -> None:
    own, other = Counter[tuple[str, bool]](), Counter[tuple[str, bool]]()
    for number in range(SCENES):
        shown = clip(HELD_OUT_SEEDS + 2_000_000 + number, "arm", frames=2, width_px=320)
        elsewhere = clip(HELD_OUT_SEEDS + 3_000_000 + number, "arm", frames=2, width_px=320)
        count(own, listed(model, shown.frames), shown.truth)
        count(other, listed(model, elsewhere.frames), shown.truth)
    for kind, least in LEAST.items():
        assert share(own, kind) >= least, own
        assert share(other, kind) < share(own, kind) - 0.3, (own, other)


def count(of: Counter[tuple[str, bool]], text: str, truth: ClipTruth) -> None:
    for said in statements_of(text):
        of[said.kind, is_true(said, truth)] += 1


def share(of: Counter[tuple[str, bool]], kind: str) -> float:
    return of[kind, True] / (of[kind, True] + of[kind, False])
