"""Loading of a Gemma 3 folder: network, tokenizer and image processor, with its progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.gemma.hugging_face import (
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    GenerationConfig,
    transformers_logging,
)
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.gemma.pixels import Pixels
from modal_workers.vision_stream.models.gemma.words import Words
from modal_workers.vision_stream.models.weights import OnProgress

#: What the loop over the weights is called in transformers.
_LOADING: Final = "Loading weights"
_HINT: Final = "Fetch the model again: a folder of an instruction-tuned Gemma 3 with its tokenizer and image processor."


def load_gemma(folder: Path, device: torch.device, on_progress: OnProgress) -> Gemma:
    """Return the model of a folder, as bfloat16 on a GPU and as float32 on a CPU.

    Raises:
        SaccadeError: MODEL_FILE_INVALID if the folder is not one of a Gemma 3 or does not fit together.
    """
    on_progress("loading the tokenizer", 0.0)
    words = load_words(folder)
    with _invalid_if_it_fails(folder), _weights_counted(on_progress):
        processor = Gemma3ImageProcessorPil.from_pretrained(folder, local_files_only=True)
        network, found = Gemma3ForConditionalGeneration.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        )
    if missing := sorted(found["missing_keys"]):
        raise _invalid(folder, f"{len(missing)} weights are missing, {missing[0]} for example")
    on_progress(f"moving the weights to {device.type}", 1.0)
    network = network.to(device).eval().requires_grad_(requires_grad=False)
    return Gemma(network, words, Pixels.of_processor(processor))


def load_words(folder: Path) -> Words:
    """Return the tokenizer of a folder.

    Raises:
        SaccadeError: MODEL_FILE_INVALID.
    """
    try:
        kind = json.loads((folder / "config.json").read_bytes()).get("model_type")
    except (ValueError, AttributeError):
        kind = None
    if kind != "gemma3":
        raise _invalid(folder, f"its config.json is that of {kind or 'no model'}, not of gemma3")
    with _invalid_if_it_fails(folder):
        config = Gemma3Config.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        configured = config.text_config.eos_token_id
        if (folder / "generation_config.json").is_file():
            configured = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return Words(tokenizer, config, [int(end) for end in ends if end is not None])


@contextmanager
def _invalid_if_it_fails(folder: Path) -> Iterator[None]:
    """Raise what transformers and safetensors raise for files that they cannot read as our error."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0][:300]
        raise _invalid(folder, f"{type(error).__name__}: {reason}") from error


@contextmanager
def _weights_counted(on_progress: OnProgress) -> Iterator[None]:
    """Report how many of the weights are loaded, where transformers would draw a bar."""

    def bar(draw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kwargs.get("desc") != _LOADING or not args:
            return draw(*args, **{**kwargs, "disable": True})
        return _counted(args[0], on_progress)

    before = transformers_logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)


def _counted(weights: Any, on_progress: OnProgress) -> Iterator[Any]:
    told = -1
    for number, weight in enumerate(weights):
        if (percent := 100 * number // len(weights)) > told:
            told = percent
            on_progress("loading weights", percent / 100)
        yield weight
    on_progress("loading weights", 1.0)


def _invalid(folder: Path, why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.MODEL_FILE_INVALID, f"The model in {folder} cannot be loaded: {why}.", hint=_HINT)
