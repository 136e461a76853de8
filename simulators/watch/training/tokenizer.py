"""The tokenizer of the model ``tiny``: whole words of the sentences it is trained on, bytes for everything else.

It writes tokenizer.json, tokenizer_config.json, the chat template (Gemma 3's form) and the processor's configuration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from simulators.watch.dialogue import PHRASES
from simulators.watch.grammar import NOUNS, PREDICATES, statement, texts_of
from simulators.watch.names import COLOURS, LIGHT_COLOURS
from simulators.watch.statements import Thing

IMAGE_PX: Final = 96
IMAGE_TOKENS: Final = 36
SPECIAL: Final = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<image_soft_token>",
)  # fmt: skip
#: Words that prompts of the worker have and the sentences have not.
_UNKNOWN: Final = "<unk>"
WORDS: Final = (
    "user model system assistant yes no Yes No Yes. No. out of date Earlier earlier chunks chunk frames frame "
    "seconds second s possibly may be now current What you said before Answer with JSON true false null answer "
    "Question question said so far then first last new since still these those It it they them its and or not but "
    "with without while when where who which why how many much was were are been being has have had does do did "
    "done will would can could should tell me say said only short long word words sentence sentences image images "
    "picture pictures video camera live stream person people hand table floor robot arm gripper one two three "
    "four five six seven eight nine ten left right above below near far up down inside outside open closed moving "
    "standing lying empty full something anything everything nobody somebody happens happened happening seen see "
    "shows show visible Watch watch Describe describe Summary summary"
)

CHAT_TEMPLATE: Final = """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}
{%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
{%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}
{%- set loop_messages = messages[1:] -%}
{%- else -%}{%- set first_user_prefix = '' -%}{%- set loop_messages = messages -%}{%- endif -%}
{%- for message in loop_messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif -%}
{%- if message['role'] == 'assistant' -%}{%- set role = 'model' -%}
{%- else -%}{%- set role = message['role'] -%}{%- endif -%}
{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}
{%- if message['content'] is string -%}{{ message['content'] | trim }}
{%- elif message['content'] is iterable -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
{%- endfor -%}
{%- else -%}{{ raise_exception("Invalid content type") }}{%- endif -%}
{{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""


def write_tokenizer(folder: Path) -> int:
    """Write tokenizer, chat template and processor configuration; return the size of the vocabulary."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=_UNKNOWN, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"\n+|▁?[A-Za-z]+|▁?[0-9]|▁?[^A-Za-z0-9\n▁]|▁+"), behavior="isolated"
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    printable = [chr(code) for code in range(33, 127)]
    digits = [f"▁{digit}" for digit in range(10)]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        special_tokens=[*SPECIAL, *bytes_],
        initial_alphabet=[*printable, "▁", "\n"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([*_corpus(), *digits], trainer)
    # The bytes are tokens of the model, not special strings that a text may contain.
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
        "extra_special_tokens": {
            "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>",
        },
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 8192,
        "padding_side": "left",
        "processor_class": "Gemma3Processor",
    }  # fmt: skip
    _write_json(folder / "tokenizer_config.json", config)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    image = {
        "image_processor_type": "Gemma3ImageProcessor", "do_convert_rgb": True, "do_resize": True, "do_rescale": True,
        "do_normalize": True, "do_pan_and_scan": False, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "image_seq_length": IMAGE_TOKENS, "resample": 2, "rescale_factor": 1 / 255,
        "size": {"height": IMAGE_PX, "width": IMAGE_PX}, "processor_class": "Gemma3Processor",
    }  # fmt: skip
    _write_json(folder / "preprocessor_config.json", image)
    _write_json(
        folder / "processor_config.json", {"image_seq_length": IMAGE_TOKENS, "processor_class": "Gemma3Processor"}
    )
    return len(data["model"]["vocab"])


def _corpus() -> list[str]:
    things = [Thing(noun, colour) for noun in NOUNS for colour in ("", *COLOURS)]
    clauses = [text for thing in things for text in texts_of_any(thing)]
    sentences = [f"{clause[0].upper()}{clause[1:]}." for clause in clauses]
    words = [f"▁{word}".replace("▁", " ") for word in WORDS.split()]
    # A word that stands at the start of a text has no space before it.
    starts = ["yes", "no", "Yes", "No", "user", "model", "\n\n", "\n\n\n", "\n\n\n\n"] * 8
    lights = [f" {colour}" for colour in LIGHT_COLOURS]
    return [*clauses, *sentences, *PHRASES, *words, *starts, *lights]


def texts_of_any(thing: Thing) -> list[str]:
    """Return the clauses of every predicate about a thing."""
    return [text for predicate in PREDICATES for text in texts_of(statement(predicate, thing, thing))]


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
