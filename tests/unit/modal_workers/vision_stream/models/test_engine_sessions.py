"""Sessions over a shared engine: the words of the transformers backend, from prompts that are only appended to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.vision_stream.models.engine_model import EngineModel
from modal_workers.vision_stream.models.gemma.network import Gemma
from modal_workers.vision_stream.models.model import ChunkAnswer, Memory, PastText
from modal_workers.vision_stream.models.transformers_model import TransformersModel
from tests.harness.watching.chunks import chunk, never, said_to_nobody, watched
from tests.harness.watching.local_engine import LocalEngine


@pytest.fixture
def engine(gemma: Gemma) -> LocalEngine:
    return LocalEngine(gemma)


@pytest.fixture
def shared(gemma: Gemma, engine: LocalEngine) -> Iterator[EngineModel]:
    yield from _model(gemma, engine, 16_384)


def _model(gemma: Gemma, engine: LocalEngine, context_tokens: int) -> Iterator[EngineModel]:
    async def open_engine() -> LocalEngine:
        return engine

    model = EngineModel("random", gemma.words, context_tokens, open_engine)
    yield model
    model.close()
    assert engine.is_shut_down


def comparable(answer: ChunkAnswer) -> ChunkAnswer:
    return replace(answer, prefill_ms=0.0, decode_ms=0.0, first_token_ms=0.0, cached_tokens=0)


@pytest.mark.parametrize("memory", ["cache", "history"])
@pytest.mark.parametrize("limit", [16_384, 170])
def test_it_says_what_the_transformers_backend_says(gemma: Gemma, memory: Memory, limit: int) -> None:
    models = _model(gemma, LocalEngine(gemma), limit)
    shared = next(models)
    sessions = [
        shared.open_session(memory, history_texts=3),
        TransformersModel("random", gemma, context_tokens=limit).open_session(memory, history_texts=3),
    ]
    reprimed = 0
    for session in sessions:
        session.prime([PastText(0, 1, "a cube"), PastText(1, 2, "a ball")])
    for number in range(9):
        how = {"frames": 1 + number % 2, "max_new_tokens": 6, "temperature": 0.9 * (number % 3)}
        one, other = (watched(session, number, **how) for session in sessions)
        assert comparable(one) == comparable(other)
        reprimed += one.reprimed
        checked = [session.check(["it is blue", "the cube falls"]) for session in sessions]
        assert checked[0] == pytest.approx(checked[1], abs=1e-4)
    assert (reprimed > 1) == (memory == "cache" and limit < 1000)
    assert list(models) == []


def test_each_prompt_begins_with_the_one_before_and_its_answer(shared: EngineModel, engine: LocalEngine) -> None:
    sessions = [shared.open_session("cache"), shared.open_session("cache")]
    answers = [watched(session, number, max_new_tokens=5) for number in range(4) for session in sessions]
    for own in (0, 1):
        prompts = [list(prompt.tokens) for prompt in engine.prompts[own::2]]
        for before, after in pairwise(prompts):
            assert after[: len(before)] == before
        assert [len(prompt.frames) for prompt in engine.prompts[own::2]] == [1, 2, 3, 4]
    assert all(later.cached_tokens > 10 for later in answers[2:])
    assert len({prompt.request_id for prompt in engine.prompts}) == len(engine.prompts)


def test_two_sessions_do_not_see_each_others_words(shared: EngineModel, gemma: Gemma, engine: LocalEngine) -> None:
    one, other = shared.open_session("cache"), shared.open_session("cache")
    watched(one, 1, instruction="secret of one")
    watched(other, 2, instruction="What?")
    watched(other, 3, instruction="What?")
    told = gemma.words.tokenizer.decode(list(engine.prompts[-1].tokens))
    assert "secret" not in told
    assert told.count("What?") == 2


def test_a_cancelled_request_is_ended_in_the_engine(shared: EngineModel, engine: LocalEngine) -> None:
    parts: list[str] = []
    session = shared.open_session("cache")
    answer = session.watch(chunk(1, max_new_tokens=400), parts.append, lambda: len(parts) >= 2)
    assert answer.finish_reason == "cancelled"
    assert answer.text == "".join(parts)
    assert answer.tokens < 400
    assert engine.aborted == [engine.prompts[0].request_id]
    following = watched(session, 2)
    assert following.finish_reason in ("complete", "length")
    assert list(engine.prompts[1].tokens)[: len(engine.prompts[0].tokens)] == list(engine.prompts[0].tokens)


def test_an_answer_by_schema(shared: EngineModel) -> None:
    schema = {
        "type": "object",
        "properties": {"held": {"type": "boolean"}},
        "required": ["held"],
        "additionalProperties": False,
    }
    answer = watched(shared.open_session("cache"), 1, answer_schema=schema, max_new_tokens=60)
    assert answer.answer in ({"held": True}, {"held": False})
    assert answer.finish_reason == "complete"


def test_errors_of_requests_leave_the_session_as_it_was(shared: EngineModel, engine: LocalEngine) -> None:
    session = shared.open_session("cache")
    first = watched(session, 1)
    with pytest.raises(SaccadeError) as error:
        watched(session, 2, answer_schema={"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]})
    assert error.value.code is ErrorCode.ANSWER_SCHEMA_INVALID
    with pytest.raises(ValueError, match="at least one frame"):
        session.watch(replace(chunk(1), frames=[]), said_to_nobody, never)
    watched(session, 3)
    assert len(engine.prompts[-1].frames) == 2, "the chunk that failed is not told"
    assert first.prompt_tokens > 0


def test_a_chunk_that_is_too_long_and_a_closed_session(gemma: Gemma) -> None:
    models = _model(gemma, LocalEngine(gemma), 100)
    shared = next(models)
    session = shared.open_session("cache")
    with pytest.raises(SaccadeError, match="20 frames"):
        watched(session, 1, frames=20)
    with pytest.raises(ValueError, match="no chunk"):
        session.check(["it is blue"])
    watched(session, 1)
    assert session.check([]) == []
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        watched(session, 2)
    assert list(models) == []
