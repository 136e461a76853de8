"""Measures a model that watches: frames a second, time to the first token, tokens a second, with each kind of memory.

    python bench/vision_stream_model.py [--frames 1 4 6] [--chunks 12] [--tokens 24] [--model tiny]
    python bench/vision_stream_model.py --config 4b --device cuda

Without ``--model`` the weights are random: the times are those of the sizes, the text says nothing. ``--config tiny``
has about the sizes of the model in the package; ``--config 4b`` has those of google/gemma-3-4b-it, for a GPU of 24 GB
or more. The kinds of memory take turns, chunk by chunk, so that other work on the machine meets both.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# before torch is imported: threads that wait must not spin
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # noqa: TID251

from bench.needs import needs

needs("torch", "transformers", "llguidance", "tokenizers")

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.vision_stream.models.gemma.hugging_face import Gemma3Config, Gemma3ForConditionalGeneration
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.gemma.pixels import Pixels
from modal_workers.vision_stream.models.gemma.words import Words
from modal_workers.vision_stream.models.loading import load_model
from modal_workers.vision_stream.models.model import ChunkAnswer, ChunkRequest, Memory, WatchModel
from modal_workers.vision_stream.models.transformers_model import TransformersModel
from tests.harness.watching.random_gemma import SPECIAL, random_frames, tokenizer

MEMORIES: tuple[Memory, ...] = ("cache", "history")
INSTRUCTION = "Describe what happens in these frames in one sentence."
CONDITIONS = ["the gripper drops the cube", "the red cube is left of the blue ball", "nothing moves"]
COLUMNS = (
    *("memory", "frames", "frames/s", "first token ms", "tokens/s", "chunk ms", "chunk CPU ms", "3 conditions ms"),
    *("prompt tokens", "of them cached"),
)
#: Sizes of the text and vision parts, tokens of an image.
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "tiny": (
        {
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "query_pre_attn_scalar": 48,
            "sliding_window": 512,
            "vocab_size": 1024,
            "max_position_embeddings": 8192,
        },
        {
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": 96,
            "patch_size": 12,
        },
        16,
    ),
    "4b": (
        {
            "hidden_size": 2560,
            "intermediate_size": 10_240,
            "num_hidden_layers": 34,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "query_pre_attn_scalar": 256,
            "sliding_window": 1024,
            "vocab_size": 262_208,
            "max_position_embeddings": 131_072,
        },
        {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 896,
            "patch_size": 14,
        },
        256,
    ),
}


def random_model(sizes: str, device: torch.device) -> WatchModel:
    """Return a model of these sizes with random weights, made on the device."""
    text, vision, image_tokens = SIZES[sizes]
    tokens = tokenizer()
    ids = dict(zip(SPECIAL, tokens.convert_tokens_to_ids(SPECIAL), strict=True))
    config = Gemma3Config(
        text_config={
            **text,
            "pad_token_id": ids["<pad>"],
            "bos_token_id": ids["<bos>"],
            "eos_token_id": ids["<eos>"],
        },
        vision_config=vision,
        mm_tokens_per_image=image_tokens,
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        image_token_index=ids["<image_soft_token>"],
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.type == "cuda" else torch.float32)
    try:
        with device:
            network = Gemma3ForConditionalGeneration(config).eval().requires_grad_(requires_grad=False)
    finally:
        torch.set_default_dtype(before)
    parameters = sum(values.numel() for values in network.parameters())
    print(f"{sizes}: {parameters / 1e6:,.1f} million parameters, random, {network.dtype}, on {device}", flush=True)
    pixels = Pixels(vision["image_size"], vision["image_size"], "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    words = Words(tokens, config, [])
    # random answers would end anywhere: each has all its tokens
    words.end_tokens = frozenset()
    return TransformersModel(sizes, Gemma(network, words, pixels))


@dataclass(frozen=True)
class Chunk:
    """Chunk that was watched, and then checked for three conditions."""

    answer: ChunkAnswer
    cpu_s: float
    check_s: float


def measured(model: WatchModel, frames: int, chunks: int, tokens: int) -> dict[Memory, list[Chunk]]:
    """Return the chunks of both kinds of memory."""
    sessions = {memory: model.open_session(memory) for memory in MEMORIES}
    found: dict[Memory, list[Chunk]] = {memory: [] for memory in MEMORIES}
    for number in range(chunks + 1):
        pictures = random_frames(frames, number, height_px=480, width_px=640)
        request = ChunkRequest(pictures, number, number + 1.0, INSTRUCTION, max_new_tokens=tokens)
        for memory, session in sessions.items():
            begun = time.process_time()
            answer = session.watch(request, lambda _: None, lambda: False)
            cpu_s = time.process_time() - begun
            begun = time.perf_counter()
            session.check(CONDITIONS)
            if number:  # the first one also allocates
                found[memory].append(Chunk(answer, cpu_s, time.perf_counter() - begun))
    return found


def row(memory: Memory, frames: int, found: list[Chunk]) -> list[str]:
    def median(value: Callable[[ChunkAnswer], float]) -> float:
        return statistics.median(value(chunk.answer) for chunk in found)

    chunk_ms = median(lambda answer: answer.prefill_ms + answer.decode_ms)
    last = found[-1].answer
    return [
        memory,
        str(frames),
        f"{1e3 * frames / chunk_ms:.1f}",
        f"{median(lambda answer: answer.first_token_ms):.0f}",
        f"{median(lambda answer: 1e3 * (answer.tokens - 1) / answer.decode_ms):.0f}",
        f"{chunk_ms:.0f}",
        f"{1e3 * statistics.median(chunk.cpu_s for chunk in found):.0f}",
        f"{1e3 * statistics.median(chunk.check_s for chunk in found):.0f}",
        f"{last.prompt_tokens}",
        f"{last.cached_tokens}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of a model that watches.")
    parser.add_argument("--config", choices=sorted(SIZES), default="tiny", help="sizes of a model with random weights")
    parser.add_argument("--model", help="load this model instead: tiny, a folder, or a name in the hub's cache")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 4, 6])
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=24, help="new tokens of a chunk")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU here")
    if options.model:
        model = load_model(options.model, device=options.device, on_progress=lambda *_: None)
    else:
        model = random_model(options.config, torch.device(options.device))
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for frames in options.frames:
        found = measured(model, frames, options.chunks, options.tokens)
        for memory in MEMORIES:
            print(f"| {' | '.join(row(memory, frames, found[memory]))} |", flush=True)
    if options.device == "cuda":
        print(f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on {torch.cuda.get_device_name()}")
    else:
        print(
            f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
