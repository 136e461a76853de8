"""The network of the model ``tiny``, and its losses: of the answers, and of what each patch of a picture is of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from modal_workers.vision_stream.models.gemma.hugging_face import Gemma3Config, Gemma3ForConditionalGeneration
from simulators.watch.training.attention import UNSEEN, Looks, attend
from simulators.watch.training.conversations import COLOUR_NAMES, IGNORED, NOUNS, WINDOW
from simulators.watch.training.course import COURSE_LABELS, THING_LABELS, THING_NUMBERS, UNKNOWN
from simulators.watch.training.tokenizer import IMAGE_PX, IMAGE_TOKENS, SPECIAL

Batch = dict[str, torch.Tensor]

_CONTEXT: Final = 2048
_BEGIN: Final = SPECIAL.index("<bos>")
_END: Final = SPECIAL.index("<eos>")
_END_OF_TURN: Final = SPECIAL.index("<end_of_turn>")
_IMAGE: Final = SPECIAL.index("<image_soft_token>")
_END_OF_IMAGE: Final = SPECIAL.index("<end_of_image>")
#: Layer after which the course is told; those behind it can use it for the words.
_COURSE_LAYER: Final = 3
_ATTENTION: Final = "plain"
#: A patch of nothing counts less than one of a thing: most are of nothing.
_NOTHING_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class Sizes:
    """Widths and depths."""

    vision: int = 128
    text: int = 128
    vision_layers: int = 4
    text_layers: int = 5


def make_network(vocabulary: int, sizes: Sizes) -> Gemma3ForConditionalGeneration:
    """Return a small Gemma 3 with random weights."""
    config = Gemma3Config(
        text_config={
            "vocab_size": vocabulary, "hidden_size": sizes.text, "intermediate_size": sizes.text * 3,
            "num_hidden_layers": sizes.text_layers, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32,
            "query_pre_attn_scalar": 32, "sliding_window": WINDOW, "max_position_embeddings": _CONTEXT,
            # No layer sees the whole of a long session: trained on two chunks, it would be confused by twenty.
            "layer_types": ["sliding_attention"] * sizes.text_layers,
            "pad_token_id": 0, "eos_token_id": _END, "bos_token_id": _BEGIN, "tie_word_embeddings": True,
        },
        vision_config={
            "hidden_size": sizes.vision, "intermediate_size": sizes.vision * 3, "patch_size": 8,
            "num_hidden_layers": sizes.vision_layers, "num_attention_heads": 4, "image_size": IMAGE_PX,
            "vision_use_head": False,
        },
        mm_tokens_per_image=IMAGE_TOKENS, boi_token_index=SPECIAL.index("<start_of_image>"),
        eoi_token_index=SPECIAL.index("<end_of_image>"), image_token_index=_IMAGE, image_token_id=_IMAGE,
        pad_token_id=0, eos_token_id=[_END, _END_OF_TURN], bos_token_id=_BEGIN, tie_word_embeddings=True,
    )  # fmt: skip
    network = Gemma3ForConditionalGeneration(config)
    network.generation_config.eos_token_id = [_END, _END_OF_TURN]
    return network


class PatchHeads(nn.Module):
    """Heads that say what each patch is of; thrown away after the training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, len(NOUNS) + len(COLOUR_NAMES) + 2)

    def loss(self, patches: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss of nouns, colours and distances to the middle."""
        found = self.out(self.norm(patches)).float()
        nouns, colours, offsets = found.split((len(NOUNS), len(COLOUR_NAMES), 2), -1)
        true_nouns, true_colours = batch["nouns"].flatten(1), batch["colours"].flatten(1)
        weight = torch.ones(len(NOUNS))
        weight[0] = _NOTHING_WEIGHT
        thing, coloured = true_nouns > 0, true_colours > 0
        return (
            functional.cross_entropy(nouns.flatten(0, 1), true_nouns.flatten(), weight)
            + functional.cross_entropy(colours[coloured], true_colours[coloured])
            + 0.5 * functional.smooth_l1_loss(offsets[thing], batch["offsets"].flatten(1, 2)[thing])
        )


class TrainedNetwork:
    """Network and heads as they are trained: whole conversation trees at once."""

    def __init__(self, tokenizer: Any, sizes: Sizes) -> None:
        # After gemma/hugging_face.py, which says why.
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: PLC0415

        self.network: Any = make_network(len(tokenizer), sizes)
        nouns = [noun.split()[-1 if "light" in noun else 0] if noun else "nothing" for noun in NOUNS]
        self._noun_words = _words(tokenizer, nouns)
        self._colour_words = _words(tokenizer, [colour or "nothing" for colour in COLOUR_NAMES])
        self.heads = PatchHeads(sizes.vision)
        self.place = nn.Linear(sizes.text, 2)
        self.course = nn.Sequential(nn.LayerNorm(sizes.text), nn.Linear(sizes.text, COURSE_LABELS))
        self.things = nn.Sequential(nn.LayerNorm(sizes.text), nn.Linear(sizes.text, THING_LABELS + THING_NUMBERS))
        ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, attend)
        for part in (self.network, self.network.model.vision_tower, self.network.model.language_model):
            part.config._attn_implementation = _ATTENTION  # noqa: SLF001
        self._looks = Looks(self.network.model.language_model.layers)

    def parts(self) -> dict[str, nn.Module]:
        """Return what is trained, by name."""
        heads = {"heads": self.heads, "course": self.course, "place": self.place, "things": self.things}
        return {"model": self.network, **heads}

    def told_apart(self) -> list[nn.Module]:
        """Return what is thrown away after the training: the heads."""
        return [part for name, part in self.parts().items() if name != "model"]

    def freeze_vision(self) -> None:
        """Leave the vision tower, what brings it to the language model, and the heads on both as they are."""
        for part in (self.network.model.vision_tower, self.network.model.multi_modal_projector, self.heads, self.place):
            part.requires_grad_(requires_grad=False)

    def patches(self, frames: torch.Tensor) -> torch.Tensor:
        """Return what the vision tower sees in each patch."""
        values = frames.permute(0, 3, 1, 2).float() / 127.5 - 1
        found: torch.Tensor = self.network.model.vision_tower(pixel_values=values).last_hidden_state
        return found

    def patch_loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of pictures alone."""
        return self.heads.loss(self.patches(batch["frames"]), batch)

    def before_answers(self, batch: Batch) -> torch.Tensor:
        """Return the last hidden states from which the answers' tokens are predicted, in their order."""
        features = self.network.model.multi_modal_projector(self.patches(batch["frames"]))
        read = self._read(batch, features)
        found: torch.Tensor = read.last_hidden_state[:, :-1][batch["labels"][:, 1:] != IGNORED]
        return found

    def logits(self, batch: Batch, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the logits of every token that is to be answered, in their order, and what the middle tells.

        That is the course at each frame, and that of the thing at each token of each image [frames, tokens, labels and
        numbers].
        """
        read, ids = self._read(batch, features), batch["ids"]
        answers: torch.Tensor = self.network.lm_head(read.last_hidden_state[:, :-1][batch["labels"][:, 1:] != IGNORED])
        middle = read.hidden_states[_COURSE_LAYER]
        course: torch.Tensor = self.course(middle[ids == _END_OF_IMAGE])
        seen: torch.Tensor = self.things(middle[ids == _IMAGE].unflatten(0, (-1, IMAGE_TOKENS)))
        return answers.float(), course.float(), seen.float()

    def _read(self, batch: Batch, features: torch.Tensor) -> Any:
        model, ids = self.network.model, batch["ids"]
        embedded = model.language_model.embed_tokens(ids)
        image = (ids == _IMAGE).unsqueeze(-1).expand_as(embedded)
        embedded = embedded.masked_scatter(image, features.to(embedded.dtype))
        bias = torch.where(batch["mask"], 0.0, UNSEEN).to(torch.bfloat16)
        mask = {"full_attention": bias, "sliding_attention": bias}
        return model.language_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=batch["positions"], use_cache=False,
            output_hidden_states=True,
        )  # fmt: skip

    def feature_loss(self, features: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return how far the tokens of an image are from the words for what they show, and from telling where it is.

        What is alike is said soon: without this, the words learn to look at the pictures only after many hours.
        """
        words = self.network.model.language_model.embed_tokens.weight
        nouns, chosen = _tokens_of(batch["nouns"]).max(-1)
        colours = _tokens_of(batch["colours"]).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        loss = features.new_zeros(())
        for named, ids in ((nouns, self._noun_words), (colours, self._colour_words)):
            there = named > 0
            logits = (features[there] @ words[ids].to(features.dtype).T).float()
            loss = loss + functional.cross_entropy(logits, named[there])
        side = batch["nouns"].shape[-1]
        across, down = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy")
        middles = (batch["offsets"] + torch.stack((across, down), -1) + 0.5) / side
        places = torch.stack([_tokens_of(middles[..., axis]).gather(-1, chosen.unsqueeze(-1)) for axis in (0, 1)], -1)
        there = nouns > 0
        found = self.place(features[there]).float()
        return loss + 20 * functional.smooth_l1_loss(found, places.squeeze(-2)[there], beta=0.1)

    def thing_loss(self, seen: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return the loss of what happens to the thing at each token of each image, and of where and how it moves."""
        nouns, chosen = _tokens_of(batch["nouns"]).max(-1)
        entities = _tokens_of(batch["entities"]).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        frames, tokens = torch.nonzero(nouns > 0, as_tuple=True)
        found, numbers = torch.split(seen[frames, tokens], [THING_LABELS, THING_NUMBERS], -1)
        entity = entities[frames, tokens]
        true, measured = batch["things"][frames, entity], batch["numbers"][frames, entity]
        known = true != UNKNOWN
        happening = functional.binary_cross_entropy_with_logits(found[known], true[known], 1 + true[known])
        # Places are up to 1, what changes of them is less.
        scale = torch.tensor([1.0] * 3 + [3.0] * 6)
        return 2 * happening + 10 * functional.smooth_l1_loss(numbers * scale, measured * scale, beta=0.1)

    def look_loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of where words and things looked when the batch was read last."""
        nouns, chosen = _tokens_of(batch["nouns"]).max(-1)
        entities = _tokens_of(batch["entities"]).gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
        places = torch.nonzero(batch["ids"] == _IMAGE).reshape(-1, IMAGE_TOKENS, 2)
        seen = entities.masked_fill(nouns == 0, -1)
        return self._looks.loss(places, seen, batch["firsts"], batch["named"], batch["told"])

    def losses(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the sum of the answers' weighted losses, and the losses of the heads by name."""
        patches = self.patches(batch["frames"])
        labels = batch["labels"][:, 1:]
        asked = labels != IGNORED
        features = self.network.model.multi_modal_projector(patches)
        answers, course, seen = self.logits(batch, features)
        loss = functional.cross_entropy(answers, labels[asked], reduction="none")
        known = batch["course"] != UNKNOWN
        true = batch["course"][known]
        # What is true is rare.
        happening = functional.binary_cross_entropy_with_logits(course[known], true, 1 + 2 * true)
        dense = {"course": 2 * happening, "things": 3 * self.thing_loss(seen, batch), "looks": self.look_loss(batch)}
        if patches.requires_grad or not torch.is_grad_enabled():
            dense |= {"patches": self.heads.loss(patches, batch), "features": self.feature_loss(features, batch)}
        return (loss * batch["weights"][:, 1:][asked]).sum(), dense


def _tokens_of(patches: torch.Tensor) -> torch.Tensor:
    """Return the values of a grid of patches [frames, side, side] by tokens [frames, tokens, patches of each]."""
    side = math.isqrt(IMAGE_TOKENS)
    span = patches.shape[-1] // side
    return patches.reshape(len(patches), side, span, side, span).transpose(2, 3).flatten(3).flatten(1, 2)


def _words(tokenizer: Any, names: Sequence[str]) -> torch.Tensor:
    return torch.tensor([tokenizer.convert_tokens_to_ids(f"▁{name}") for name in names])
