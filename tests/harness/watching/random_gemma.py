"""Gemma 3 with random weights: a folder as one from the hub, in every part real but the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from modal_workers.vision_stream.models.gemma.hugging_face import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    GenerationConfig,
    PreTrainedTokenizerFast,
)
from modal_workers.vision_stream.models.model import Rgb

SPECIAL = [
    *("<pad>", "<eos>", "<bos>", "<unk>"),
    *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
]
_WORDS = [
    "the red cube is left of the blue ball and the gripper holds it now",
    "yes no Yes No YES NO user model Describe what happens in these frames in one sentence.",
    'What was said of earlier frames (it may be out of date): 0.0-1.0 s: {"object": true, "count": 3}',
]
IMAGE_PX = 32
IMAGE_TOKENS = 4


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the kind of Gemma's: words with their space in front, and bytes for all else."""
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    own = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    own.normalizer = normalizers.Replace(" ", "▁")
    own.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    own.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[*SPECIAL, *bytes_], show_progress=False)
    own.train_from_iterator([*_WORDS, "\n", "\n\n", "\n\n\n\n"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=_bytes_as_text(own),
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image_soft_token>", "boi_token": "<start_of_image>"},
        additional_special_tokens=[token for token in SPECIAL if "turn" in token or "image" in token],
    )


def _bytes_as_text(own: Tokenizer) -> Tokenizer:
    """Return the tokenizer with its bytes as ordinary tokens: the trainer knows no other way to put them in."""
    import json

    described = json.loads(own.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(described))


def config(words: PreTrainedTokenizerFast, **text: Any) -> Gemma3Config:
    """Return a configuration of three small layers, two of which see the last 24 tokens only."""
    ids = dict(zip(SPECIAL, words.convert_tokens_to_ids(SPECIAL), strict=True))
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    return Gemma3Config(
        text_config={
            **sizes,
            "vocab_size": len(words),
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "sliding_window": 24,
            "sliding_window_pattern": 3,
            "max_position_embeddings": 16_384,
            "query_pre_attn_scalar": 16,
            "initializer_range": 0.4,
            "pad_token_id": ids["<pad>"],
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<eos>"],
            **text,
        },
        vision_config={**sizes, "num_hidden_layers": 1, "image_size": IMAGE_PX, "patch_size": 8},
        mm_tokens_per_image=IMAGE_TOKENS,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
        initializer_range=0.4,
        # else each token says itself again
        tie_word_embeddings=False,
    )


def write_random_gemma(folder: Path, seed: int = 0, **text: Any) -> Path:
    """Write the folder of a model with random weights."""
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Gemma3ForConditionalGeneration(config(words, **text))
        # what this is initialised to says nothing of an image
        torch.nn.init.normal_(network.model.multi_modal_projector.mm_input_projection_weight, std=0.4)
    end = words.convert_tokens_to_ids("<end_of_turn>")
    network.generation_config = GenerationConfig(eos_token_id=[words.eos_token_id, end])
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    size = {"height": IMAGE_PX, "width": IMAGE_PX}
    Gemma3ImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return folder


def random_frames(count: int, seed: int, *, height_px: int = 40, width_px: int = 56) -> list[Rgb]:
    """Return frames of coloured noise, coarse enough to differ after they are resized."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, height_px // 8, width_px // 8, 3), dtype=np.uint8)
    return [np.kron(frame, np.ones((8, 8, 1), np.uint8)) for frame in coarse]
