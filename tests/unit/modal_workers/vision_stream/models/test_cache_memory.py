"""The memory ``cache``: the same logits as if everything were computed again, and no more of it than its limit."""

from __future__ import annotations

import copy
import gc
import resource
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.model import PastText
from modal_workers.vision_stream.models.transformers_model import TransformersModel
from tests.harness.watching.chunks import watched
from tests.harness.watching.random_gemma import random_frames
from tests.harness.watching.recomputation import Reading, RecordedGemma, difference, recomputed


@pytest.fixture(scope="module")
def two_hundred_chunks(gemma: Gemma) -> Reading:
    recorded = RecordedGemma(gemma)
    session = TransformersModel("random", recorded).open_session("cache")
    for number in range(200):
        watched(session, number, frames=1 + number % 2)
    return recorded.reading


def test_two_hundred_chunks_have_the_logits_of_a_recomputation(gemma: Gemma, two_hundred_chunks: Reading) -> None:
    window = gemma.network.config.text_config.sliding_window
    assert len(two_hundred_chunks.tokens) > 100 * window
    assert len(two_hundred_chunks.features) == 200
    # a step for the frames, one for the text and one for the token between
    assert len(two_hundred_chunks.logits) >= 3 * 200 - 10
    again = recomputed(gemma, two_hundred_chunks)
    assert difference(two_hundred_chunks.logits, again) < 1e-4
    assert torch.stack(list(again.values())).std() > 0.5, "logits that are all alike show nothing"


def test_the_comparison_finds_a_wrong_frame_and_a_mask_that_is_missing(gemma: Gemma) -> None:
    recorded = RecordedGemma(gemma)
    session = TransformersModel("random", recorded).open_session("cache")
    for number in range(12):
        watched(session, number)
    reading = recorded.reading
    assert difference(reading.logits, recomputed(gemma, reading)) < 1e-4
    assert difference(reading.logits, recomputed(gemma, reading, images_marked=False)) > 0.05
    frames = list(reading.features)
    frames[3] = gemma.features(random_frames(1, 999))
    wrong = recomputed(gemma, replace(reading, features=frames))
    assert difference(reading.logits, wrong) > 0.05
    before = {count: logits for count, logits in reading.logits.items() if count < 60}
    assert before
    assert difference(before, {count: wrong[count] for count in before}) < 1e-4, "what came before the wrong frame"


def test_only_new_tokens_are_computed(model: TransformersModel) -> None:
    session = model.open_session("cache")
    first, second, third = (watched(session, number, max_new_tokens=5) for number in range(3))
    assert first.cached_tokens == 0
    # all but the last token of the answer, which nothing came after
    assert second.cached_tokens == first.prompt_tokens + first.tokens - 1
    assert third.cached_tokens == second.prompt_tokens + second.tokens - 1
    assert third.prompt_tokens - third.cached_tokens == second.prompt_tokens - second.cached_tokens


def test_an_answer_that_the_model_ends_is_remembered_as_it_was_said(gemma: Gemma) -> None:
    """Each token once: the last one before the end was read to find the end."""
    said = RecordedGemma(gemma)
    watched(TransformersModel("random", said).open_session("cache"), 0, max_new_tokens=5)
    ending = copy.copy(gemma.words)
    ending.end_tokens = gemma.words.end_tokens | {said.reading.tokens[-1]}
    recorded = RecordedGemma(Gemma(gemma.network, ending, gemma._pixels))
    session = TransformersModel("random", recorded).open_session("cache")
    first = watched(session, 0, max_new_tokens=5)
    assert first.finish_reason == "complete"
    assert first.tokens > 0
    second = watched(session, 1, max_new_tokens=1)
    assert second.cached_tokens == first.prompt_tokens + first.tokens
    assert recorded.reading.tokens.count(ending.image_token) == 2 * 4
    turn = ending.turn(1, "What?", first=False)
    assert second.prompt_tokens == first.prompt_tokens + first.tokens + len(turn)
    assert len(recorded.reading.tokens) == second.prompt_tokens


def test_a_full_memory_is_built_anew_from_the_last_texts_and_frames(gemma: Gemma) -> None:
    recorded = RecordedGemma(gemma)
    session = TransformersModel("random", recorded, context_tokens=500).open_session("cache", history_texts=3)
    reprimed: list[int] = []
    texts: list[PastText] = []
    for number in range(60):
        answer = watched(session, number, max_new_tokens=3)
        assert answer.prompt_tokens + answer.tokens <= 500
        if answer.reprimed:
            reprimed.append(number)
            assert answer.cached_tokens == 0
            prompt = gemma.words.tokenizer.decode(recorded.reading.tokens)
            told = [text for text in texts[-4:-1] if text.text.strip()]
            assert all(f"{text.start_s:.1f}-{text.end_s:.1f} s: " in prompt for text in told)
            assert f"{texts[-5].start_s:.1f}-" not in prompt
            assert prompt.count("<start_of_image>") == 2, "the last frame and the new one"
            assert torch.equal(recorded.reading.features[0], gemma.features(random_frames(1, number - 1)))
        texts.append(PastText(number, number + 1.0, answer.text))
    assert len(reprimed) >= 3
    assert min(later - earlier for earlier, later in pairwise(reprimed)) >= 5
    assert difference(recorded.reading.logits, recomputed(gemma, recorded.reading)) < 1e-4


def test_memory_stays_flat(gemma: Gemma) -> None:
    session = TransformersModel("random", gemma, context_tokens=300).open_session("cache")
    for number in range(40):
        watched(session, number % 7, max_new_tokens=1)
    gc.collect()
    held = _tensor_bytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(120):
        watched(session, number % 7, max_new_tokens=1)
    gc.collect()
    assert _tensor_bytes() < held + 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak + 10_000, "KiB"


def _tensor_bytes() -> int:
    found = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor):
            storage = thing.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def test_a_chunk_that_is_longer_than_the_context_is_refused_and_changes_nothing(gemma: Gemma) -> None:
    session = TransformersModel("random", gemma, context_tokens=120).open_session("cache")
    first = watched(session, 1)
    with pytest.raises(SaccadeError, match="20 frames") as error:
        watched(session, 2, frames=20)
    assert error.value.code is ErrorCode.INVALID_PARAMETER
    assert watched(session, 3).cached_tokens == first.prompt_tokens + first.tokens - 1


def test_a_large_last_chunk_is_left_out_of_the_new_memory(gemma: Gemma) -> None:
    session = TransformersModel("random", gemma, context_tokens=200).open_session("cache")
    watched(session, 1, frames=12)
    answer = watched(session, 2, frames=12)
    assert answer.reprimed
    alone = TransformersModel("random", gemma, context_tokens=200).open_session("cache")
    assert answer.prompt_tokens > watched(alone, 2, frames=12).prompt_tokens, "the past text is told"
    assert answer.prompt_tokens < 200
