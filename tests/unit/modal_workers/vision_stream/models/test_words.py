"""Tokens of prompts, text of tokens, and frames: as the processor of Gemma 3 makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from modal_workers.vision_stream.models.gemma.hugging_face import Gemma3ImageProcessorPil
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.gemma.pixels import Pixels
from modal_workers.vision_stream.models.image import fit
from modal_workers.vision_stream.models.text_stream import TextStream
from tests.harness.watching.random_gemma import IMAGE_TOKENS, random_frames


@pytest.fixture(scope="module")
def processor(gemma: Gemma, gemma_folder: Path):
    from transformers import Gemma3Processor

    pictures = Gemma3ImageProcessorPil.from_pretrained(gemma_folder)
    words = gemma.words.tokenizer
    words.eoi_token = "<end_of_image>"
    return Gemma3Processor(pictures, words, image_seq_length=IMAGE_TOKENS)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_turn_has_the_tokens_of_the_processor(gemma: Gemma, processor, frames: int) -> None:
    text = "Describe what happens\nin these frames: ö 酮."
    chat = f"<bos><start_of_turn>user\n{'<start_of_image>' * frames}{text}<end_of_turn>\n<start_of_turn>model\n"
    pictures = [Image.fromarray(frame) for frame in random_frames(frames, 1)]
    expected = processor(images=pictures, text=chat, add_special_tokens=False)
    turn = gemma.words.turn(frames, text, first=True)
    assert [*turn.frames, *turn.text] == list(expected["input_ids"][0])
    assert turn.frames[-1] == gemma.words.tokenizer.convert_tokens_to_ids("<end_of_image>")
    types = (np.array(turn.frames) == gemma.words.image_token).astype(int).tolist() + [0] * len(turn.text)
    assert types == list(expected["token_type_ids"][0])
    unexpanded = gemma.words.prompt(frames, text, first=True)
    assert gemma.words.tokenizer.decode(unexpanded) == chat


def test_later_turns_go_on_where_the_answer_ended(gemma: Gemma) -> None:
    words = gemma.words
    first, second = words.turn(1, "What?", first=True), words.turn(1, "And now?", first=False)
    answer = words.encode("the cube")
    conversation = [*first.frames, *first.text, *answer, *second.frames, *second.text]
    text = words.tokenizer.decode(conversation)
    assert text.count("<bos>") == 1
    assert "model\nthe cube<end_of_turn>\n<start_of_turn>user\n\n\n<start_of_image>" in text
    assert words.encode(text.removeprefix("<bos>")) == conversation[1:]


@pytest.mark.parametrize(("height_px", "width_px"), [(40, 56), (480, 640), (24, 16), (32, 32)])
def test_pixels_are_those_of_the_processor(gemma_folder: Path, height_px: int, width_px: int) -> None:
    processor = Gemma3ImageProcessorPil.from_pretrained(gemma_folder)
    frames = random_frames(2, 5, height_px=height_px, width_px=width_px)
    expected = torch.from_numpy(
        np.stack(processor([Image.fromarray(frame) for frame in frames], return_tensors="np")["pixel_values"])
    )
    found = Pixels.of_processor(processor).of(frames, torch.device("cpu"), torch.float32)
    assert found.shape == expected.shape
    # one of 255 steps between -1 and 1: Pillow computes with whole numbers
    assert float((found - expected).abs().max()) <= 1.01 / 127.5
    assert float((found - expected).abs().mean()) < 0.2 / 127.5


def test_a_frame_is_reduced_to_its_longest_edge() -> None:
    wide = random_frames(1, 1, height_px=720, width_px=1280)[0]
    assert fit(wide, 640).shape == (360, 640, 3)
    assert fit(wide.transpose(1, 0, 2).copy(), 640).shape == (640, 360, 3)
    assert fit(wide, 1280) is wide
    assert fit(np.zeros((4, 1000, 3), np.uint8), 100).shape == (1, 100, 3)
    assert abs(float(fit(wide, 320).mean()) - float(wide.mean())) < 1.5


def _streamed(gemma: Gemma, tokens: list[int]) -> list[str]:
    parts: list[str] = []
    stream = TextStream(gemma.words.decode, parts.append)
    for token in tokens:
        stream.push(token)
    stream.end()
    assert stream.text == "".join(parts)
    return parts


@pytest.mark.parametrize(
    "text",
    ["the red cube is left of it", "größer, ▁ 酮 👩‍🚀 é!", " two  spaces\n\nand lines ", "", "€" * 20],
)
def test_streamed_text_is_whole(gemma: Gemma, text: str) -> None:
    tokens = gemma.words.encode(text)
    parts = _streamed(gemma, tokens)
    assert "".join(parts) == gemma.words.decode(tokens)
    if "▁" not in text:
        assert "".join(parts) == text
    assert all("�" not in part for part in parts)


def test_a_character_that_is_cut_off_is_not_shown_before_it_is_whole(gemma: Gemma) -> None:
    tokens = gemma.words.encode("a€")
    assert len(tokens) == 4, "a euro sign has three bytes"
    parts: list[str] = []
    stream = TextStream(gemma.words.decode, parts.append)
    for token, shown in zip(tokens, ["a", "a", "a", "a€"], strict=True):
        stream.push(token)
        assert "".join(parts) == shown


def test_bytes_that_are_no_character_do_not_hold_back_what_follows(gemma: Gemma) -> None:
    broken = gemma.words.tokenizer.convert_tokens_to_ids("<0xE2>")
    assert _streamed(gemma, [*gemma.words.encode("a"), broken, *gemma.words.encode(" cube")])[-1].endswith("cube")
