"""Training of ``tiny``: what it is trained on is what the worker shows it, and the script makes a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modal_workers.vision_stream.models.gemma.hugging_face import AutoTokenizer
from modal_workers.vision_stream.models.loading import load_model
from modal_workers.vision_stream.models.model import ChunkRequest
from modal_workers.vision_stream.spec import INSTRUCTION
from simulators.watch.scene import clip
from simulators.watch.training import train
from simulators.watch.training.conversations import Conversations, batches_by_length
from simulators.watch.training.network import Sizes, TrainedNetwork
from simulators.watch.training.tokenizer import write_tokenizer
from tests.harness.watching.chunks import never, said_to_nobody, told_to_nobody

SMALL = Sizes(vision=64, text=64, vision_layers=2, text_layers=4)


@pytest.fixture
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedNetwork, Conversations]:
    folder = tmp_path_factory.mktemp("tiny")
    write_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(3)
    made = TrainedNetwork(tokenizer, SMALL)
    torch.nn.init.normal_(made.network.model.multi_modal_projector.mm_input_projection_weight, std=0.3)
    return made, Conversations(tokenizer, questions=1, checks=2)


def test_each_branch_of_a_tree_is_the_conversation_alone(trained: tuple[TrainedNetwork, Conversations]) -> None:
    made, conversations = trained
    seed = next(seed for seed in range(100) if conversations.clip(seed)[1].parents[-4:].count(0) == 0)  # of two chunks
    _, tree, _ = conversations.clip(seed)
    (arrays,) = batches_by_length(conversations, [seed], 1)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    network, segments = made.network, np.array(tree.segments)
    with torch.inference_mode():
        features = network.model.multi_modal_projector(made.patches(batch["frames"]))
        answered = made.logits(batch, features)[0]
        for part in (network, network.model.vision_tower, network.model.language_model):
            part.set_attn_implementation("sdpa")  # as where it is used
        used = 0
        for leaf in range(len(tree.parents)):
            path, number = list[int](), leaf
            while number >= 0:
                path.insert(0, number)
                number = tree.parents[number]
            places = np.concatenate([np.flatnonzero(segments == part) for part in path])
            ids = batch["ids"][:, places]
            shown = sorted(set(np.array(tree.images)[places]) - {0})
            pixels = batch["frames"][[number - 1 for number in shown]].permute(0, 3, 1, 2).float() / 127.5 - 1
            alone = network(
                input_ids=ids, pixel_values=pixels, token_type_ids=(ids == network.config.image_token_id).long(),
                attention_mask=torch.ones_like(ids),
            ).logits[0]  # fmt: skip
            own = np.flatnonzero((segments == leaf) & (np.array(tree.labels) >= 0))
            if len(own) == 0:
                continue
            expected = answered[used : used + len(own)]
            used += len(own)
            positions = [int(np.flatnonzero(places == place)[0]) - 1 for place in own]
            assert torch.allclose(alone[positions], expected, atol=1e-4), leaf
    assert used == len(answered)


def test_the_script_makes_a_model_that_the_worker_loads(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    steps = ["--vision-steps", "1", "--vision-batch", "2", "--steps", "1", "--batch", "2", "--parts", "1"]
    train.main([str(folder), "--processes", "1", *steps])
    model = load_model(str(folder), on_progress=told_to_nobody)
    session = model.open_session("history")
    shown = clip(1, "arm", frames=2, width_px=160)
    request = ChunkRequest(shown.frames, 0.0, 1.0, INSTRUCTION, max_new_tokens=3)
    assert session.watch(request, said_to_nobody, never).tokens >= 1
    assert 0 <= session.check(["the gripper drops the object"])[0] <= 1


def test_a_run_begins_with_weights_and_one_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    begun, fitted = tmp_path / "begun", tmp_path / "fitted"
    step = ["--vision-minutes", "0", "--steps", "1", "--batch", "2", "--parts", "1", "--processes", "1"]
    train.main([str(begun), *step])
    train.main([str(fitted), *step, "--weights", str(begun), "--head-steps", "1", "--frozen-vision"])
    before, after = load_file(begun / "model.safetensors"), load_file(fitted / "model.safetensors")
    changed = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"language_model"}
    checkpoint = torch.load(fitted.with_suffix(".checkpoint"), weights_only=True)
    train.main([str(fitted), *step, "--resume", str(fitted.with_suffix(".checkpoint")), "--frozen-vision"])
    again = torch.load(fitted.with_suffix(".checkpoint"), weights_only=True)
    steps = [int(states["optimisers"][-1]["state"][0]["step"]) for states in (checkpoint, again)]
    assert steps == [1, 2], "the optimisers' state is that of the interrupted run"


def test_words_and_things_are_to_look_at_what_they_are_of(trained: tuple[TrainedNetwork, Conversations]) -> None:
    made, conversations = trained
    seed = next(
        seed for seed in range(100) if conversations.clip(seed)[1].named and len(conversations.clip(seed)[0]) > 2
    )
    _, tree, (truth,) = conversations.clip(seed)
    (arrays,) = batches_by_length(conversations, [seed], 1)
    batch = {name: torch.from_numpy(value) for name, value in arrays.items()}
    for _, position, frame, number in arrays["named"]:
        entity = truth.last.entities[number]
        noun = f"▁{entity.noun.split()[-1]}"
        assert conversations._tokenizer.convert_ids_to_tokens(tree.ids[position]) == noun
        assert frame == len(truth.frames) - 1
    with torch.inference_mode():
        made.logits(batch, made.network.model.multi_modal_projector(made.patches(batch["frames"])))
        blind = float(made.look_loss(batch))
        attentions = [layer.self_attn for layer in made.network.model.language_model.layers]
        # Looking at images alone is nearer to it, looking at words alone is farther from it.
        kept = [getattr(attention, "kept_scores", None) for attention in attentions]
        images = batch["ids"][:, None, None] == made.network.config.image_token_id
        for attention, scores in zip(attentions, kept, strict=True):
            if scores is not None:
                attention.kept_scores = scores.masked_fill(~images, -1e4)
        seeing = float(made.look_loss(batch))
        for attention, scores in zip(attentions, kept, strict=True):
            if scores is not None:
                attention.kept_scores = scores.masked_fill(images, -1e4)
        away = float(made.look_loss(batch))
    assert 0 < seeing < blind < away
