"""Results of a vision stream's chunks: each on one acknowledgement, in order, and never on the first one."""

from __future__ import annotations

import pytest

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.session import SessionText
from services.gateway.compat.vision.finished_chunks import FinishedChunks
from services.gateway.compat.vision.frame_buffer import FrameBuffer, ReceivedFrame


def text(caption: str, **more: object) -> SessionText:
    return SessionText.model_validate({"run_id": "run", "chunk": 1, "text": caption} | more)


def test_what_is_not_known_is_left_out() -> None:
    chunks = FinishedChunks()
    chunks.add_text(text("a cup"), 0.5)
    assert chunks.acknowledgement(2, 10) == {"frame": 2, "bytes": 10, "caption": "a cup"}


def test_times_count_from_the_beginning_of_the_connection() -> None:
    chunks = FinishedChunks()
    chunks.add_text(text("a cup", start_s=1.0, end_s=2.25), 0.5)
    found = chunks.acknowledgement(2, 10)
    assert (found["chunk_start_s"], found["chunk_end_s"]) == (1.5, 2.75)


def test_the_first_acknowledgement_never_has_a_result() -> None:
    chunks = FinishedChunks()
    chunks.add_error("no worker")
    assert chunks.acknowledgement(1, 3) == {"frame": 1, "bytes": 3}
    assert chunks.acknowledgement(2, 3) == {"frame": 2, "bytes": 3, "inference_error": "no worker"}
    assert chunks.acknowledgement(3, 3) == {"frame": 3, "bytes": 3}


def test_results_come_in_order_and_the_newest_are_kept() -> None:
    chunks = FinishedChunks()
    for number in range(100):
        chunks.add_text(text(str(number)), 0.0)
    captions = [chunks.acknowledgement(2, 0).get("caption") for _ in range(33)]
    assert captions == [*map(str, range(68, 100)), None]


def test_an_error_is_told_instead_of_a_caption_and_answers_to_questions_are_not_told() -> None:
    chunks = FinishedChunks()
    error = ErrorBody(code=ErrorCode.INTERNAL, message="out of memory", hint="", retryable=True)
    chunks.add_text(text("", finish_reason="error", error=error, start_s=1.0, tokens=0), 0.0)
    chunks.add_text(text("two", prompt_id="prm_1"), 0.0)
    assert chunks.acknowledgement(2, 0) == {"frame": 2, "bytes": 0, "inference_error": "out of memory"}
    assert chunks.acknowledgement(3, 0) == {"frame": 3, "bytes": 0}


@pytest.mark.anyio
async def test_a_full_buffer_drops_the_oldest_frames() -> None:
    buffer = FrameBuffer(3, max_bytes=100)
    for number in range(1, 6):
        buffer.add(ReceivedFrame(number, 0.0, bytes(10)))
    assert buffer.dropped == 2
    assert [(await buffer.take()).number for _ in range(3)] == [3, 4, 5]
    for number, size in ((6, 60), (7, 60), (8, 1000)):
        buffer.add(ReceivedFrame(number, 0.0, bytes(size)))
    assert (await buffer.take()).number == 8, "a single frame is kept whatever its size"
    assert buffer.dropped == 4
